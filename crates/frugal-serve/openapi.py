"""Writes the description of the HTTP interface, OpenAPI 3.1.

    python3 crates/frugal-serve/openapi.py > crates/frugal-serve/src/openapi.json

Requests are described as src/wire reads them: a name with `!` must be given, every other field may be
null, which is the same as not given, and no field beside them is known. Answers are described as far
as clients can count on them. What no schema says is not said: fields that contradict each other,
bytes (lengths here are in characters), ids beyond a model's vocabulary. Tests in src/wire/described.rs
and src/routes/tests.rs hold this against the parsers, the encoders and the router.
"""

import json
import sys

# As `Limits::USUAL` has them.
MESSAGES, N, STOPS, STOP_BYTES, TOOLS = 4096, 128, 16, 256, 128
BIASES, LIKELIEST, SAMPLES, PROMPTS = 1024, 20, 64, 64
NAME_BYTES, TOKENS, BUDGET, TOKEN_ID = 512, 2**31 - 1, 2**31, 2**32 - 1
EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]
TIERS = ["auto", "default", "flex", "scale", "priority"]


def text(least=None, most=None, **more):
    limits = {"minLength": least, "maxLength": most}
    return {"type": "string"} | {k: v for k, v in limits.items() if v is not None} | more


def number(least, most):
    return {"type": "number", "minimum": least, "maximum": most}


def count(least, most):
    return {"type": "integer", "minimum": least, "maximum": most}


def words(*words):
    return {"type": "string", "enum": list(words)}


def array(items, least=None, most=None):
    limits = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items} | {k: v for k, v in limits.items() if v is not None}


def either(*options):
    return {"anyOf": list(options)}


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def about(schema, words):
    return schema | {"description": words}


def nullable(schema):
    """The same, or null."""
    kind = schema.get("type")
    if kind == "null" or not schema.keys() & {"type", "anyOf", "$ref"}:
        return schema
    if "enum" in schema:
        return schema | {"type": [kind, "null"], "enum": [*schema["enum"], None]}
    if isinstance(kind, str):
        return schema | {"type": [kind, "null"]}
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    words = {k: v for k, v in schema.items() if k == "description"}
    return words | {"anyOf": [{"$ref": schema["$ref"]}, {"type": "null"}]}


def fields(given):
    required = [name[:-1] for name in given if name.endswith("!")]
    properties = {
        name.rstrip("!"): schema if name.endswith("!") else nullable(schema)
        for name, schema in given.items()
    }
    need = {"required": required} if required else {}
    return {"type": "object", "properties": properties} | need


def closed(given):
    """An object of a request."""
    return fields(given) | {"additionalProperties": False}


def answer(given, **more):
    """An object of an answer: `!` is always there, perhaps null where the schema says so. Others
    may stand beside them."""
    required = [name[:-1] for name in given if name.endswith("!")]
    properties = {name.rstrip("!"): schema for name, schema in given.items()}
    return {"type": "object", "properties": properties, "required": required} | more


NULL = {"type": "null"}
FLAG = {"type": "boolean"}
ANY = {}
FALSE = {"type": "boolean", "enum": [False]}
STRING = text()
NAME = text(most=NAME_BYTES)
MODEL = text(1, NAME_BYTES)
FUNCTION_NAME = text(1, 64, pattern="^[A-Za-z0-9_-]{1,64}$")
SCHEMA = {"type": "object"}
ID = count(0, TOKEN_ID)
WHOLE = {"type": "integer"}
REAL = {"type": "number"}
STREAM_OPTIONS = closed({"include_usage": FLAG, "include_obfuscation": FLAG})
METADATA = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": NAME,
}

schemas = {}

# What dialects share.

schemas["TemplateVariables"] = {
    "type": "object",
    "description": "Variables of the chat template. enable_thinking and thinking say whether to think.",
    "maxProperties": 66,
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"},
    "properties": {
        "enable_thinking": nullable(FLAG),
        "thinking": nullable(FLAG),
    }
    | {
        name: False
        for name in [
            "messages",
            "tools",
            "add_generation_prompt",
            "continue_final_message",
            "bos_token",
            "eos_token",
            "chat_template",
            "tokenize",
        ]
    },
}
schemas["Thinking"] = closed(
    {"type!": words("enabled", "disabled"), "budget_tokens": count(0, BUDGET)}
)
schemas["Verify"] = about(
    closed(
        {
            "samples!": count(1, SAMPLES),
            "checker!": about(NAME, "majority, math, json, or the name of a task"),
            "reference": about(ANY, "what a task grades against"),
        }
    ),
    "Several answers are drawn and graded, and one is given",
)
THINKING = {
    "thinking_token_budget": about(count(-1, BUDGET), "tokens of the thought; -1 sets no limit"),
    "chat_template_kwargs": ref("TemplateVariables"),
    "reasoning_effort": words(*EFFORTS),
}
SAMPLED = {
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "top_k": about(count(-1, TOKENS), "0 or -1 keeps all"),
    "min_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "repetition_penalty": number(0.01, 100),
    "logit_bias": {
        "type": "object",
        "maxProperties": BIASES,
        "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,9})$"},
        "additionalProperties": number(-100, 100),
    },
    "seed": count(-(2**63), 2**63 - 1),
    "stop": either(text(1, STOP_BYTES), array(text(1, STOP_BYTES), most=STOPS)),
    "stop_token_ids": array(ID, most=STOPS),
    "ignore_eos": FLAG,
    "user_id": text(most=NAME_BYTES, pattern="^[A-Za-z0-9_-]*$"),
    "user": NAME,
}
CHOICE = array(STRING, 1)
schemas["ResponseFormat"] = either(
    closed({"type!": words("text")}),
    closed({"type!": words("json_object")}),
    closed(
        {
            "type!": words("json_schema"),
            "json_schema!": closed(
                {
                    "name!": FUNCTION_NAME,
                    "description": STRING,
                    "schema": SCHEMA,
                    "strict": FLAG,
                }
            ),
        }
    ),
)
schemas["StructuredOutputs"] = closed(
    {
        "json": either(SCHEMA, STRING),
        "regex": STRING,
        "grammar": STRING,
        "choice": CHOICE,
        "json_object": FLAG,
    }
)
FORM = {
    "response_format": ref("ResponseFormat"),
    "guided_json": either(SCHEMA, STRING),
    "guided_regex": STRING,
    "guided_grammar": about(STRING, "in Lark's notation"),
    "guided_choice": CHOICE,
    "structured_outputs": ref("StructuredOutputs"),
}
schemas["Tool"] = closed(
    {
        "type!": words("function"),
        "function!": closed(
            {
                "name!": FUNCTION_NAME,
                "description": STRING,
                "parameters": SCHEMA,
                "strict": FLAG,
            }
        ),
    }
)
schemas["NamedTool"] = closed(
    {"type!": words("function"), "function!": closed({"name!": FUNCTION_NAME})}
)
schemas["ToolChoice"] = either(
    words("none", "auto", "required"),
    ref("NamedTool"),
    closed(
        {
            "type!": words("allowed_tools"),
            "allowed_tools!": closed(
                {"mode!": words("auto", "required"), "tools!": array(ref("NamedTool"), 1, TOOLS)}
            ),
        }
    ),
)
TOOLBOX = {
    "tools": array(ref("Tool"), most=TOOLS),
    "tool_choice": ref("ToolChoice"),
    "parallel_tool_calls": FLAG,
}

# Chat completions.

TEXT_PART = closed({"type!": words("text"), "text!": STRING})
schemas["TextPart"] = TEXT_PART
TEXT_CONTENT = either(STRING, array(ref("TextPart"), 1))
schemas["ToolCall"] = closed(
    {
        "id!": text(1, NAME_BYTES),
        "type": words("function"),
        "index": count(0, TOOLS),
        "function!": closed({"name!": FUNCTION_NAME, "arguments!": STRING}),
    }
)
schemas["ChatMessage"] = either(
    closed({"role!": words("system", "developer", "user"), "content!": TEXT_CONTENT, "name": NAME}),
    closed(
        {
            "role!": words("assistant"),
            "content": either(
                STRING,
                array(
                    either(
                        ref("TextPart"),
                        closed({"type!": words("refusal"), "refusal!": STRING}),
                    ),
                    1,
                ),
            ),
            "refusal": STRING,
            "reasoning_content": about(STRING, "the thought, as it was given"),
            "reasoning": STRING,
            "tool_calls": array(ref("ToolCall"), most=TOOLS),
            "annotations": array(ANY, most=0),
            "function_call": NULL,
            "audio": NULL,
            "prefix": about(FLAG, "of the last message: it is continued"),
            "name": NAME,
        }
    ),
    closed(
        {
            "role!": words("tool"),
            "content!": TEXT_CONTENT,
            "tool_call_id!": NAME,
            "name": NAME,
        }
    ),
)
CONVERSATION = {
    "messages!": array(ref("ChatMessage"), 1, MESSAGES),
    "continue_final_message": FLAG,
    "add_generation_prompt": FLAG,
}
schemas["ChatRequest"] = closed(
    {"model!": MODEL}
    | CONVERSATION
    | {"thinking": ref("Thinking")}
    | THINKING
    | {
        "n": count(1, N),
        "max_completion_tokens": about(count(1, TOKENS), "of each answer, its thought included"),
        "max_tokens": about(count(1, TOKENS), "the older name of max_completion_tokens"),
        "logprobs": FLAG,
        "top_logprobs": count(0, LIKELIEST),
        "reasoning_logprobs": FLAG,
        "stream": FLAG,
        "stream_options": STREAM_OPTIONS,
        "return_token_ids": FLAG,
        "verify": ref("Verify"),
    }
    | SAMPLED
    | FORM
    | TOOLBOX
    | {
        "prediction": closed({"type!": words("content"), "content!": TEXT_CONTENT}),
        "metadata": METADATA,
        "prompt_cache_key": NAME,
        "prompt_cache_retention": words("in_memory", "in-memory"),
        "safety_identifier": NAME,
        "service_tier": words(*TIERS),
        "verbosity": words("low", "medium", "high"),
        "store": FALSE,
        "modalities": array(words("text"), most=8),
        "audio": NULL,
        "web_search_options": NULL,
        "functions": NULL,
        "function_call": NULL,
    }
)

schemas["Cost"] = about(
    answer(
        {
            "flops!": REAL,
            "core_seconds!": REAL,
            "joules!": REAL,
            "joules_are!": words("measured", "estimated", ""),
            "money!": REAL,
            "currency!": STRING,
        }
    ),
    "What the answer cost the operator",
)
OURS = {"cost!": ref("Cost"), "verified": about(SCHEMA, "what verifying came to")}
schemas["Usage"] = answer(
    {
        "prompt_tokens!": WHOLE,
        "completion_tokens!": WHOLE,
        "total_tokens!": WHOLE,
        "prompt_tokens_details!": answer({"cached_tokens!": WHOLE, "audio_tokens!": WHOLE}),
        "completion_tokens_details!": answer(
            {
                "reasoning_tokens!": WHOLE,
                "audio_tokens!": WHOLE,
                "accepted_prediction_tokens!": WHOLE,
                "rejected_prediction_tokens!": WHOLE,
            }
        ),
        "prompt_cache_hit_tokens!": WHOLE,
        "prompt_cache_miss_tokens!": WHOLE,
    }
    | OURS
)
schemas["FinishDetails"] = about(
    answer(
        {
            "stop": STRING,
            "thought_closed": words("budget", "asked", "circles"),
            "ended_in_thought": FLAG,
        }
    ),
    "What the official reasons do not say",
)
FINISH = {
    "finish_reason!": words("stop", "length", "tool_calls"),
    "finish_details": ref("FinishDetails"),
}
TOKEN_TRIPLE = {
    "token!": STRING,
    "logprob!": REAL,
    "bytes!": nullable(array(count(0, 255))),
}
schemas["TokenLogprob"] = answer(
    TOKEN_TRIPLE | {"top_logprobs!": array(answer(TOKEN_TRIPLE), most=LIKELIEST)}
)
schemas["ChatLogprobs"] = answer(
    {
        "content!": nullable(array(ref("TokenLogprob"))),
        "refusal!": NULL,
        "reasoning_content": array(ref("TokenLogprob")),
    }
)
schemas["ToolCallMade"] = answer(
    {
        "id!": STRING,
        "type!": words("function"),
        "function!": answer({"name!": STRING, "arguments!": STRING}),
    }
)
HEAD = {
    "id!": STRING,
    "created!": WHOLE,
    "model!": STRING,
    "system_fingerprint!": nullable(STRING),
}
schemas["ChatCompletion"] = answer(
    HEAD
    | {
        "object!": words("chat.completion"),
        "service_tier": STRING,
        "choices!": array(
            answer(
                {
                    "index!": WHOLE,
                    "message!": answer(
                        {
                            "role!": words("assistant"),
                            "content!": nullable(STRING),
                            "refusal!": NULL,
                            "reasoning_content": STRING,
                            "reasoning": STRING,
                            "tool_calls": array(ref("ToolCallMade"), 1),
                            "annotations!": array(ANY, most=0),
                        }
                    ),
                    "logprobs!": nullable(ref("ChatLogprobs")),
                    "token_ids": array(ID),
                }
                | FINISH
            ),
            1,
        ),
        "usage!": ref("Usage"),
        "prompt_token_ids": array(ID),
    }
)
CALL_PIECE = answer(
    {
        "index!": WHOLE,
        "id": STRING,
        "type": words("function"),
        "function!": answer({"name": STRING, "arguments!": STRING}),
    }
)
schemas["ChatChunk"] = answer(
    HEAD
    | {
        "object!": words("chat.completion.chunk"),
        "service_tier": STRING,
        "choices!": array(
            answer(
                {
                    "index!": WHOLE,
                    "delta!": answer(
                        {
                            "role": words("assistant"),
                            "content": STRING,
                            "reasoning_content": STRING,
                            "reasoning": STRING,
                            "tool_calls": array(CALL_PIECE, 1),
                        }
                    ),
                    "logprobs!": nullable(ref("ChatLogprobs")),
                    "token_ids": array(ID),
                }
                | FINISH
                | {"finish_reason!": nullable(FINISH["finish_reason!"])}
            )
        ),
        "usage": nullable(ref("Usage")),
        "prompt_token_ids": array(ID),
    }
)
schemas["ThinkingStopped"] = answer(
    {
        "id!": STRING,
        "object!": words("chat.completion.stop_thinking"),
        "stopped!": FLAG,
    }
)

# Completions.

TOKEN_IDS = array(ID, 1)
schemas["CompletionRequest"] = closed(
    {
        "model!": MODEL,
        "prompt!": either(
            STRING, TOKEN_IDS, array(either(STRING, TOKEN_IDS), 1, PROMPTS)
        ),
        "suffix": about(STRING, "what stands after the text that is wanted"),
        "n": count(1, N),
        "best_of": about(count(1, N), "as n, or nothing"),
        "echo": FLAG,
        "logprobs": count(0, LIKELIEST),
        "max_tokens": about(count(0, TOKENS), "16 if not given; 0 only beside echo"),
        "stream": FLAG,
        "stream_options": STREAM_OPTIONS,
        "return_token_ids": FLAG,
    }
    | SAMPLED
    | FORM
)
LISTED = {
    "tokens!": array(STRING),
    "token_logprobs!": array(nullable(REAL)),
    "top_logprobs!": array(nullable({"type": "object", "additionalProperties": REAL})),
    "text_offset!": array(WHOLE),
}
schemas["Completion"] = about(
    answer(
        HEAD
        | {
            "object!": words("text_completion"),
            "choices!": array(
                answer(
                    {
                        "index!": WHOLE,
                        "text!": STRING,
                        "logprobs!": nullable(answer(LISTED)),
                        "token_ids": array(ID),
                        "prompt_token_ids": array(ID),
                        "finish_reason!": nullable(words("stop", "length")),
                        "finish_details": ref("FinishDetails"),
                    }
                )
            ),
            "usage": nullable(ref("Usage")),
        }
    ),
    "Whole, or one chunk of it",
)

# Responses.

ITEM = {"id": NAME, "status": words("in_progress", "completed", "incomplete")}
PHASE = words("commentary", "final_answer")


def part(kind, key="text", **more):
    return closed({"type!": words(kind), f"{key}!": STRING} | more)


INPUT_TEXT = array(part("input_text"), most=MESSAGES)
schemas["InputItem"] = either(
    closed(
        {
            "type": words("message"),
            "role!": words("user", "system", "developer"),
            "content!": either(STRING, INPUT_TEXT),
            "phase": PHASE,
        }
        | ITEM
    ),
    closed(
        {
            "type": words("message"),
            "role!": words("assistant"),
            "content!": either(
                STRING,
                array(
                    either(
                        part(
                            "output_text",
                            annotations=array(ANY, most=MESSAGES),
                            logprobs=ANY,
                        ),
                        part("refusal", "refusal"),
                    ),
                    most=MESSAGES,
                ),
            ),
            "phase": PHASE,
        }
        | ITEM
    ),
    closed(
        {
            "type!": words("reasoning"),
            "summary": array(part("summary_text"), most=MESSAGES),
            "content": array(part("reasoning_text"), most=MESSAGES),
            "encrypted_content": NULL,
        }
        | ITEM
    ),
    closed(
        {
            "type!": words("function_call"),
            "call_id!": NAME,
            "name!": FUNCTION_NAME,
            "arguments!": STRING,
            "namespace": NULL,
            "caller": NULL,
            "async": NULL,
        }
        | ITEM
    ),
    closed(
        {
            "type!": words("function_call_output"),
            "call_id!": NAME,
            "output!": either(STRING, INPUT_TEXT),
            "name": NAME,
            "namespace": NULL,
            "caller": NULL,
        }
        | ITEM
    ),
)
FLAT_NAMED = closed({"type!": words("function"), "name!": FUNCTION_NAME})
SUMMARY = words("auto", "concise", "detailed")
schemas["ResponsesRequest"] = closed(
    {
        "model!": MODEL,
        "input!": either(STRING, array(ref("InputItem"), 1, 4 * MESSAGES)),
        "instructions": STRING,
        "max_output_tokens": count(1, TOKENS),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "top_logprobs": count(0, LIKELIEST),
        "include": array(
            words("message.output_text.logprobs", "reasoning.encrypted_content"), most=16
        ),
        "reasoning": closed(
            {"effort": words(*EFFORTS), "summary": SUMMARY, "generate_summary": SUMMARY}
        ),
        "thinking": ref("Thinking"),
    }
    | THINKING
    | {
        "text": closed(
            {
                "verbosity": words("low", "medium", "high"),
                "format": either(
                    closed({"type!": words("text")}),
                    closed({"type!": words("json_object")}),
                    closed(
                        {
                            "type!": words("json_schema"),
                            "name!": FUNCTION_NAME,
                            "schema!": SCHEMA,
                            "description": STRING,
                            "strict": FLAG,
                        }
                    ),
                ),
            }
        ),
        "tools": array(
            closed(
                {
                    "type!": words("function"),
                    "name!": FUNCTION_NAME,
                    "description": STRING,
                    "parameters": SCHEMA,
                    "strict": FLAG,
                }
            ),
            most=TOOLS,
        ),
        "tool_choice": either(
            words("none", "auto", "required"),
            FLAT_NAMED,
            closed(
                {
                    "type!": words("allowed_tools"),
                    "mode!": words("auto", "required"),
                    "tools!": array(FLAT_NAMED, 1, TOOLS),
                }
            ),
        ),
        "parallel_tool_calls": FLAG,
        "verify": ref("Verify"),
        "user": NAME,
        "stream": FLAG,
        "stream_options": closed({"include_obfuscation": FLAG}),
        "metadata": METADATA,
        "prompt_cache_key": NAME,
        "prompt_cache_retention": words("in_memory", "in-memory"),
        "safety_identifier": NAME,
        "service_tier": words(*TIERS),
        "truncation": words("disabled"),
        "background": FALSE,
        "store": FALSE,
        "previous_response_id": NULL,
        "conversation": NULL,
        "prompt": NULL,
        "max_tool_calls": NULL,
    }
)
schemas["Response"] = answer(
    {
        "id!": STRING,
        "object!": words("response"),
        "created_at!": WHOLE,
        "completed_at!": nullable(WHOLE),
        "model!": STRING,
        "status!": words("completed", "in_progress", "incomplete", "failed"),
        "output!": array(
            answer(
                {
                    "id!": STRING,
                    "type!": words("reasoning", "message", "function_call"),
                    "status!": words("in_progress", "completed", "incomplete"),
                }
            )
        ),
        "incomplete_details!": nullable(answer({"reason!": words("max_output_tokens")})),
        "error!": nullable(answer({"code!": STRING, "message!": STRING})),
        "usage!": nullable(
            answer(
                {
                    "input_tokens!": WHOLE,
                    "input_tokens_details!": answer({"cached_tokens!": WHOLE}),
                    "output_tokens!": WHOLE,
                    "output_tokens_details!": answer({"reasoning_tokens!": WHOLE}),
                    "total_tokens!": WHOLE,
                }
                | OURS
            )
        ),
        "instructions!": nullable(STRING),
        "metadata!": SCHEMA,
        "parallel_tool_calls!": FLAG,
        "reasoning!": SCHEMA,
        "text!": SCHEMA,
        "tool_choice!": ANY,
        "tools!": array(SCHEMA),
        "finish_details": ref("FinishDetails"),
    }
)
schemas["ResponseEvent"] = about(
    answer({"type!": STRING, "sequence_number!": WHOLE, "response": ref("Response")}),
    "OpenAI's events, of the type that `event:` names",
)

# Messages.

CACHE = closed({"type": words("ephemeral"), "ttl": words("5m", "1h")})
schemas["TextBlock"] = closed(
    {"type!": words("text"), "text!": STRING, "cache_control": CACHE, "citations": NULL}
)
TEXT_BLOCKS = either(STRING, array(ref("TextBlock")))
schemas["UserBlock"] = either(
    ref("TextBlock"),
    closed(
        {
            "type!": words("tool_result"),
            "tool_use_id!": NAME,
            "content": TEXT_BLOCKS,
            "is_error": FLAG,
            "cache_control": CACHE,
        }
    ),
)
schemas["AssistantBlock"] = either(
    ref("TextBlock"),
    closed({"type!": words("thinking"), "thinking!": STRING, "signature": STRING}),
    closed({"type!": words("redacted_thinking"), "data": STRING}),
    closed(
        {
            "type!": words("tool_use"),
            "id!": NAME,
            "name!": FUNCTION_NAME,
            "input!": SCHEMA,
            "cache_control": CACHE,
            "caller": NULL,
        }
    ),
)
TOOL_CHOSEN = {"disable_parallel_tool_use": FLAG}
COUNTED = (
    {
        "model!": MODEL,
        "messages!": array(
            either(
                closed({"role!": words("system"), "content!": TEXT_BLOCKS}),
                closed(
                    {"role!": words("user"), "content!": either(STRING, array(ref("UserBlock")))}
                ),
                closed(
                    {
                        "role!": words("assistant"),
                        "content!": either(STRING, array(ref("AssistantBlock"))),
                    }
                ),
            ),
            1,
            MESSAGES,
        ),
        "system": TEXT_BLOCKS,
        "thinking": closed(
            {
                "type!": words("enabled", "disabled", "adaptive"),
                "budget_tokens": count(0, BUDGET),
                "display": words("summarized", "omitted"),
            }
        ),
    }
    | THINKING
    | {
        "output_config": closed(
            {
                "effort": words(*EFFORTS),
                "format": closed({"type!": words("json_schema"), "schema!": SCHEMA}),
            }
        ),
        "tools": array(
            closed(
                {
                    "type": words("custom"),
                    "name!": FUNCTION_NAME,
                    "description": STRING,
                    "input_schema!": SCHEMA,
                    "strict": FLAG,
                    "eager_input_streaming": FLAG,
                    "cache_control": CACHE,
                }
            ),
            most=TOOLS,
        ),
        "tool_choice": either(
            closed({"type!": words("auto", "any", "none")} | TOOL_CHOSEN),
            closed({"type!": words("tool"), "name!": FUNCTION_NAME} | TOOL_CHOSEN),
        ),
        "verify": ref("Verify"),
        "cache_control": CACHE,
        "container": NULL,
        "mcp_servers": NULL,
    }
)
schemas["CountRequest"] = closed(COUNTED)
schemas["Counted"] = answer({"input_tokens!": WHOLE})
schemas["MessagesRequest"] = closed(
    COUNTED
    | {
        "max_tokens!": count(1, TOKENS),
        "temperature": number(0, 1),
        "top_p": number(0, 1),
        "top_k": count(0, TOKENS),
        "stop_sequences": array(text(1, STOP_BYTES), most=STOPS),
        "stream": FLAG,
        "metadata": closed({"user_id": NAME}),
        "service_tier": words("auto", "standard_only"),
    }
)
schemas["MessagesUsage"] = answer(
    {
        "input_tokens!": about(WHOLE, "without those found in the cache"),
        "output_tokens!": WHOLE,
        "cache_read_input_tokens!": WHOLE,
        "cache_creation_input_tokens!": WHOLE,
        "output_tokens_details!": answer({"thinking_tokens!": WHOLE}),
        "service_tier!": words("standard"),
    }
    | OURS
)
schemas["Message"] = answer(
    {
        "id!": STRING,
        "type!": words("message"),
        "role!": words("assistant"),
        "model!": STRING,
        "content!": array(
            either(
                answer({"type!": words("text"), "text!": STRING}),
                answer({"type!": words("thinking"), "thinking!": STRING, "signature!": STRING}),
                answer(
                    {
                        "type!": words("tool_use"),
                        "id!": STRING,
                        "name!": STRING,
                        "input!": SCHEMA,
                    }
                ),
            )
        ),
        "stop_reason!": nullable(words("end_turn", "max_tokens", "stop_sequence", "tool_use")),
        "stop_sequence!": nullable(STRING),
        "usage!": ref("MessagesUsage"),
        "finish_details": ref("FinishDetails"),
    }
)
schemas["MessageEvent"] = about(
    answer(
        {
            "type!": words(
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
                "ping",
                "error",
            ),
            "message": ref("Message"),
        }
    ),
    "Anthropic's events, of the type that `event:` names",
)

# Texts and ids.

OF_MODEL = {
    "model": about(MODEL, "the one that is loaded at the start, if not given"),
    "add_special_tokens": about(FLAG, "whether the model's first token is put before it"),
    "return_token_strs": FLAG,
}
schemas["TokenizeRequest"] = either(
    closed({"prompt!": STRING, "messages": NULL} | OF_MODEL),
    closed(
        {"prompt": NULL}
        | CONVERSATION
        | OF_MODEL
        | {"thinking": ref("Thinking")}
        | THINKING
        | TOOLBOX
    ),
)
schemas["Tokenized"] = answer(
    {
        "count!": WHOLE,
        "max_model_len!": WHOLE,
        "tokens!": array(ID),
        "token_strs!": nullable(array(STRING)),
    }
)
schemas["DetokenizeRequest"] = closed({"model": OF_MODEL["model"], "tokens!": array(ID)})
schemas["Detokenized"] = answer({"prompt!": STRING})
schemas["TokenizerInfo"] = answer(
    {"tokenizer_class!": STRING, "chat_template!": nullable(STRING)}
    | {f"{name}_token!": ANY for name in ["bos", "eos", "pad", "unk"]}
)
schemas["Model"] = answer(
    {
        "id!": STRING,
        "object!": words("model"),
        "created!": WHOLE,
        "owned_by!": STRING,
        "bytes!": WHOLE,
        "max_model_len!": about(nullable(WHOLE), "tokens that a conversation may have"),
        "sampling!": about(
            nullable(answer({"temperature!": REAL, "top_p!": REAL, "top_k!": WHOLE})),
            "how it samples where a request does not say",
        ),
        "about!": about(ANY, "what its card and files say"),
    }
)
schemas["ModelList"] = answer({"object!": words("list"), "data!": array(ref("Model"))})

# Ollama's.

SEQUENCE = count(-1, TOKENS)
schemas["OllamaOptions"] = closed(
    {
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "min_p": number(0, 1),
        "top_k": count(0, TOKENS),
        "presence_penalty": number(-2, 2),
        "frequency_penalty": number(-2, 2),
        "repeat_penalty": number(0.01, 10),
        "repeat_last_n": SEQUENCE,
        "seed": count(-(2**63), 2**63 - 1),
        "num_predict": {"anyOf": [count(-2, -1), count(1, TOKENS)]},
        "num_ctx": count(1, TOKENS),
        "stop": either(text(1, STOP_BYTES), array(text(1, STOP_BYTES), most=STOPS)),
    }
    | {name: SEQUENCE for name in ["num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread"]}
    | {name: FLAG for name in ["numa", "low_vram", "f16_kv", "use_mmap", "use_mlock"]}
    | {name: number(0, 100) for name in ["mirostat_tau", "mirostat_eta"]}
    | {name: number(1, 1) for name in ["tfs_z", "typical_p"]}
    | {name: FALSE for name in ["logits_all", "vocab_only", "embedding_only"]}
    | {"mirostat": count(0, 0), "penalize_newline": {"type": "boolean", "enum": [True]}}
)
OLLAMA = (
    {
        "model!": MODEL,
        "stream": about(FLAG, "true if not given"),
        "think": either(FLAG, words(*EFFORTS)),
        "thinking": ref("Thinking"),
    }
    | THINKING
    | {
        "format": either({"type": "string", "enum": ["", "json"]}, SCHEMA),
        "options": ref("OllamaOptions"),
        "logprobs": FLAG,
        "top_logprobs": count(0, LIKELIEST),
        "keep_alive": either(REAL, text(most=32, pattern="^[0-9.hmsun-]*$")),
        "shift": FLAG,
        "truncate": FALSE,
        "verify": ref("Verify"),
    }
)
NOTHING = array(ANY, most=0)
CALL_OF_OLLAMA = closed(
    {
        "id": NAME,
        "type": words("function"),
        "function!": closed(
            {"name!": FUNCTION_NAME, "index": count(0, NAME_BYTES), "arguments": SCHEMA}
        ),
    }
)
schemas["OllamaChatRequest"] = closed(
    OLLAMA
    | {
        "messages": about(
            array(
                either(
                    closed(
                        {
                            "role!": words("system", "user"),
                            "content!": STRING,
                            "images": NOTHING,
                        }
                    ),
                    closed(
                        {
                            "role!": words("assistant"),
                            "content": STRING,
                            "thinking": STRING,
                            "tool_calls": array(CALL_OF_OLLAMA, most=TOOLS),
                            "images": NOTHING,
                        }
                    ),
                    closed(
                        {
                            "role!": words("tool"),
                            "content!": STRING,
                            "tool_name": NAME,
                            "tool_call_id": NAME,
                            "images": NOTHING,
                        }
                    ),
                ),
                most=MESSAGES,
            ),
            "none asks that the model be loaded",
        )
    }
    | TOOLBOX
)
schemas["OllamaGenerateRequest"] = closed(
    OLLAMA
    | {
        "prompt": about(STRING, "none asks that the model be loaded"),
        "suffix": STRING,
        "system": STRING,
        "raw": about(FLAG, "without the chat template"),
        "template": text(most=0),
        "context": NOTHING,
        "images": NOTHING,
    }
)
END_OF_OLLAMA = {"done_reason": STRING} | {
    name: WHOLE
    for name in [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ]
} | {"cost": ref("Cost"), "verified": SCHEMA, "finish_details": ref("FinishDetails")}
LINE_OF_OLLAMA = {
    "model!": STRING,
    "created_at!": STRING,
    "done!": FLAG,
    "logprobs": array(ref("TokenLogprob")),
}
schemas["OllamaChat"] = answer(
    LINE_OF_OLLAMA
    | {
        "message!": answer(
            {
                "role!": words("assistant"),
                "content!": STRING,
                "thinking": STRING,
                "tool_calls": array(
                    answer({"function!": answer({"name!": STRING, "arguments!": SCHEMA})})
                ),
            }
        )
    }
    | END_OF_OLLAMA,
    description="Whole, or one line of it; the last line is done",
)
schemas["OllamaGenerate"] = answer(
    LINE_OF_OLLAMA
    | {"response!": STRING, "thinking": STRING}
    | END_OF_OLLAMA,
    description="Whole, or one line of it; the last line is done",
)
schemas["OllamaShowRequest"] = closed(
    {"model": NAME, "name": about(NAME, "the older word for model"), "verbose": FLAG}
)
schemas["OllamaShow"] = answer(
    {
        "license!": STRING,
        "modelfile!": STRING,
        "parameters!": STRING,
        "template!": STRING,
        "details!": SCHEMA,
        "model_info!": SCHEMA,
        "capabilities!": array(STRING),
        "modified_at!": STRING,
    }
)
NAMED_OF_OLLAMA = {"name!": STRING, "model!": STRING, "digest!": STRING, "details!": SCHEMA, "size!": WHOLE}
schemas["OllamaTags"] = answer(
    {"models!": array(answer(NAMED_OF_OLLAMA | {"modified_at!": STRING}))}
)
schemas["OllamaRunning"] = answer(
    {
        "models!": array(
            answer(
                NAMED_OF_OLLAMA
                | {"size_vram!": WHOLE, "context_length!": WHOLE, "expires_at!": STRING}
            )
        )
    }
)
schemas["OllamaVersion"] = answer({"version!": STRING, "frugal!": STRING})
schemas["Status"] = answer({"status!": words("ok")})

# Errors.

schemas["Error"] = answer(
    {
        "error!": answer(
            {
                "message!": STRING,
                "type!": STRING,
                "param!": about(nullable(STRING), "the field at fault"),
                "code!": nullable(STRING),
            }
        )
    }
)
schemas["AnthropicError"] = answer(
    {
        "type!": words("error"),
        "error!": answer({"type!": STRING, "message!": STRING}),
    }
)
schemas["OllamaError"] = answer({"error!": STRING})
ENVELOPES = {"OpenAI": "Error", "Anthropic": "AnthropicError", "Ollama": "OllamaError"}
ERRORS = {
    400: "Malformed, out of range, unknown, or more than the model holds",
    401: "No key, or a wrong one",
    402: "The key's budget is spent",
    403: "The key may not use this, or the host or page may not ask",
    404: "There is no such model, answer or route",
    405: "Not by this method",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is not application/json",
    429: "Too many requests or tokens for the key, or for the server",
    500: "The server failed",
    503: "Loading or ending; or a model that cannot be loaded, which is not to be tried again",
}
RETRY = {
    "Retry-After": {"description": "seconds", "schema": WHOLE},
    "x-should-retry": {"schema": words("true", "false")},
}

responses = {}
for dialect, envelope in ENVELOPES.items():
    for status, words_of_it in ERRORS.items():
        response = {
            "description": words_of_it,
            "content": {"application/json": {"schema": ref(envelope)}},
        }
        if status in (429, 503):
            response["headers"] = RETRY
        responses[f"{dialect}{status}"] = response

# The statuses that a client of a kind of route must expect.
OPEN = [400, 403, 500]
KEYED = [400, 401, 403, 500, 503]
BODY = [400, 401, 402, 403, 404, 408, 413, 415, 429, 500, 503]


def route(summary, dialect, statuses, good, **more):
    """What stands under a method."""
    errors = {
        str(status): {"$ref": f"#/components/responses/{dialect}{status}"} for status in statuses
    }
    return {"summary": summary} | more | {"responses": {"200": good} | errors}


def good(schema, description="Done", stream=None):
    """A success: JSON, and what is streamed instead where that is asked for."""
    content = {"application/json": {"schema": schema}}
    if stream:
        kind, item, end = stream
        content[kind] = {"schema": {"type": "string", "description": f"{end}; {item} each"}}
        content[kind]["x-item"] = ref(item)
    return {"description": description, "content": content}


def post(summary, dialect, request, answered, statuses=BODY):
    body = {"required": True, "content": {"application/json": {"schema": ref(request)}}}
    return {"post": route(summary, dialect, statuses, answered, requestBody=body)}


def get(summary, dialect, schema, statuses, **more):
    return {"get": route(summary, dialect, statuses, good(ref(schema)), **more)}


def answers(schema, item, end, kind="text/event-stream"):
    success = good(ref(schema), "The answer, whole or as it is made", (kind, item, end))
    success["headers"] = {
        "x-frugal-without-effect": {
            "description": "fields that were taken and change nothing",
            "schema": STRING,
        }
    }
    return success


def plain(kind, description):
    return {"description": description, "content": {kind: {"schema": {"type": "string"}}}}


ITEM_ID = [{"name": "id", "in": "path", "required": True, "schema": text(1)}]
NO_KEY = {"security": []}
DONE = "data: lines, the last of them [DONE]"
chat = post(
    "Answers a conversation",
    "OpenAI",
    "ChatRequest",
    answers("ChatCompletion", "ChatChunk", DONE),
)
completions = post(
    "Continues texts",
    "OpenAI",
    "CompletionRequest",
    answers("Completion", "Completion", DONE),
)
models = get("Lists models", "OpenAI", "ModelList", KEYED)
model = get("Shows a model", "OpenAI", "Model", [*KEYED, 404], parameters=ITEM_ID)
responds = post(
    "Answers a conversation that is sent whole",
    "OpenAI",
    "ResponsesRequest",
    answers("Response", "ResponseEvent", "event: and data: lines"),
)
messages = post(
    "Answers a conversation",
    "Anthropic",
    "MessagesRequest",
    answers("Message", "MessageEvent", "event: and data: lines"),
)
counts = post("Counts a prompt's tokens", "Anthropic", "CountRequest", good(ref("Counted")))

paths = {}
for base in ["/v1", "", "/beta", "/beta/v1"]:
    paths[f"{base}/chat/completions"] = chat
    paths[f"{base}/completions"] = completions
    paths[f"{base}/models"] = models
for base in ["/v1", "/anthropic/v1"]:
    paths[f"{base}/messages"] = messages
    paths[f"{base}/messages/count_tokens"] = counts
for base in ["/v1", ""]:
    paths[f"{base}/models/{{id}}"] = model
    paths[f"{base}/responses"] = responds
paths["/v1/chat/completions/{id}/stop_thinking"] = {
    "post": route(
        "Ends the thought of an answer under way; its answer goes on",
        "OpenAI",
        [400, 401, 403, 404, 415, 500, 503],
        good(ref("ThinkingStopped")),
        parameters=ITEM_ID,
    )
}
paths["/tokenize"] = post(
    "Makes ids of a text or a conversation", "OpenAI", "TokenizeRequest", good(ref("Tokenized"))
)
paths["/detokenize"] = post(
    "Makes a text of ids", "OpenAI", "DetokenizeRequest", good(ref("Detokenized"))
)
paths["/tokenizer_info"] = get(
    "Shows a model's tokenizer_config.json",
    "OpenAI",
    "TokenizerInfo",
    [*KEYED, 404],
    parameters=[{"name": "model", "in": "query", "schema": STRING}],
)
LINES = "lines of JSON, the last of them done"
for name, request, schema in [
    ("chat", "OllamaChatRequest", "OllamaChat"),
    ("generate", "OllamaGenerateRequest", "OllamaGenerate"),
]:
    answered = answers(schema, schema, LINES, "application/x-ndjson")
    paths[f"/api/{name}"] = post("As Ollama's route of this name", "Ollama", request, answered)
paths["/api/show"] = post(
    "Shows a model",
    "Ollama",
    "OllamaShowRequest",
    good(ref("OllamaShow")),
    [400, 401, 403, 404, 408, 413, 415, 429, 500, 503],
)
paths["/api/tags"] = get("Lists models", "Ollama", "OllamaTags", KEYED)
paths["/api/ps"] = get("Lists models that are loaded", "Ollama", "OllamaRunning", KEYED)
paths["/api/version"] = get(
    "The version of Ollama whose interface this follows", "Ollama", "OllamaVersion", OPEN, **NO_KEY
)
paths["/openapi.json"] = {
    "get": route(
        "This description",
        "OpenAI",
        OPEN,
        good({"type": "object", "required": ["openapi", "info", "paths"]}),
        **NO_KEY,
    )
}
paths["/metrics"] = {
    "get": route(
        "Metrics for Prometheus; for everyone where the operator says so",
        "OpenAI",
        KEYED,
        plain("text/plain", "In Prometheus's format"),
    )
}
paths["/livez"] = get("Whether the server lives", "OpenAI", "Status", OPEN, **NO_KEY)
for name in ["readyz", "health"]:
    paths[f"/{name}"] = get(
        "Whether questions can be answered", "OpenAI", "Status", [*OPEN, 503], **NO_KEY
    )

# Every operation gets a name of its own: its method and its path.
for path, item in paths.items():
    named = {}
    for method, operation in item.items():
        parts = [part.strip("{}") for part in path.split("/") if part]
        named[method] = {"operationId": "_".join([method, *parts]).replace(".", "_")} | operation
    paths[path] = named

document = {
    "openapi": "3.1.0",
    "info": {
        "title": "Frugal",
        "version": "1",
        "description": "OpenAI's, DeepSeek's, Anthropic's and Ollama's interfaces to local models. "
        "Fields are acted on or refused, unknown ones too; null is the same as not given. Every path "
        "answers 404 and every other method 405 in the path's envelope. Answers have x-request-id.",
    },
    "servers": [{"url": "/"}],
    "security": [{"bearer": []}, {"key": []}],
    "paths": paths,
    "components": {
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        },
        "responses": {
            name: response
            for name, response in responses.items()
            if f"responses/{name}\"" in json.dumps(paths)
        },
        "schemas": schemas,
    },
}


def lines(value, depth):
    """JSON with a line for each thing down to a depth, so that changes can be read."""
    if depth == 0 or not isinstance(value, dict) or not value:
        return json.dumps(value, separators=(",", ":"))
    inner = [f"{json.dumps(name)}:{lines(item, depth - 1)}" for name, item in value.items()]
    return "{\n" + ",\n".join(inner) + "\n}"


sys.stdout.write(lines(document, 3) + "\n")
