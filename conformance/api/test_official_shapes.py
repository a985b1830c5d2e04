"""Bodies held against OpenAI's official schemas, where their description is at hand."""

import gzip
import json
import urllib.request

import jsonschema
import pytest

from test_openai_tools import TOOLS

HELLO = [{"role": "user", "content": "hello"}]
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


@pytest.fixture(scope="module")
def official(shared):
    file = shared / "openai-api" / "openapi-serving.json.gz"
    if not file.exists():
        pytest.skip(f"{file} is absent")
    description = json.loads(gzip.decompress(file.read_bytes()))
    # What the description lacks and the official server does all the same: chunks of completions have
    # no reason before the end, the first token of an echoed prompt has no log-probability, and nothing
    # is known of usage when a response begins (so in the description's own examples).
    completion = description["components"]["schemas"]["CreateCompletionResponse"]
    choice = completion["properties"]["choices"]["items"]["properties"]
    choice["finish_reason"]["nullable"] = True
    for name in ("token_logprobs", "top_logprobs"):
        choice["logprobs"]["anyOf"][0]["properties"][name]["items"]["nullable"] = True
    response = description["components"]["schemas"]["Response"]
    for part in response["allOf"]:
        if "usage" in part.get("properties", {}):
            part["properties"]["usage"] = {"anyOf": [part["properties"]["usage"], {"type": "null"}]}
    return with_nulls(description)


def narrowed(error, body):
    """What is wrong in the kind of event that it says it is, not in all the others."""
    kinds = {}
    for part in error.context:
        kinds.setdefault(part.schema_path[0], []).append(part)
    is_type = lambda part: list(part.path) == ["type"]
    own = [parts for parts in kinds.values() if not any(map(is_type, parts))]
    return own[0] if own else [error]


def with_nulls(schema):
    """In words of JSON Schema what `nullable`, a word of OpenAPI's alone, says."""
    if isinstance(schema, list):
        return [with_nulls(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: with_nulls(one) for name, one in schema.items()}
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


@pytest.fixture(scope="module")
def check(official):
    def check(body, schema):
        root = {"$ref": f"#/components/schemas/{schema}", "components": official["components"]}
        validator = jsonschema.Draft202012Validator(root)
        errors = [error for wide in validator.iter_errors(body) for error in narrowed(wide, body)]
        assert not errors, [f"{error.json_path}: {error.message[:200]}" for error in errors]

    return check


def events(server, path, body):
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps({**body, "stream": True}).encode(), head)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers.get_content_type() == "text/event-stream"
        lines = [line[5:].strip() for line in answer.read().decode().splitlines() if line.startswith("data:")]
    if path != RESPONSES:
        assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


QUIET = {"reasoning_effort": "none"}
BODIES = [
    {},
    {"n": 3, **QUIET},
    {"logprobs": True, "top_logprobs": 2},
    {"tools": TOOLS, "tool_choice": "required", **QUIET},
    {"max_tokens": 3, "service_tier": "auto"},
    {"response_format": {"type": "json_object"}, "max_tokens": 40},
]


@pytest.mark.parametrize("more", BODIES, ids=lambda more: "-".join(more) or "plain")
def test_chat(server, check, more):
    body = {"model": "tiny", "messages": HELLO, "seed": 1, **more}
    check(server.post(CHAT, body), "CreateChatCompletionResponse")
    for options in ({}, {"stream_options": {"include_usage": True}}):
        for chunk in events(server, CHAT, {**body, **options}):
            check(chunk, "CreateChatCompletionStreamResponse")


@pytest.mark.parametrize(
    "more", [{}, {"n": 2}, {"logprobs": 2}, {"echo": True, "logprobs": 1}], ids=lambda more: "-".join(more) or "plain"
)
def test_completions(server, check, more):
    body = {"model": "tiny", "prompt": "once", "seed": 1, **more}
    check(server.post(TEXT, body), "CreateCompletionResponse")
    for chunk in events(server, TEXT, body):
        check(chunk, "CreateCompletionResponse")


FUNCTIONS = [{"type": "function", **tool["function"], "strict": True} for tool in TOOLS]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"reasoning": {"effort": "none"}},
        {"tools": FUNCTIONS, "tool_choice": "required", "reasoning": {"effort": "none"}},
        {"max_output_tokens": 3, "metadata": {"a": "b"}},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"text": {"format": {"type": "json_object"}}, "max_output_tokens": 40},
    ],
    ids=lambda more: "-".join(more) or "plain",
)
def test_responses(server, check, more):
    body = {"model": "tiny", "input": "hello", **more}
    check(server.post(RESPONSES, body), "Response")
    for event in events(server, RESPONSES, body):
        check(event, "ResponseStreamEvent")


def test_models(server, check):
    listed = json.loads(server.get("/v1/models"))
    check(listed, "ListModelsResponse")
    check(json.loads(server.get(f"/v1/models/{listed['data'][0]['id']}")), "Model")
