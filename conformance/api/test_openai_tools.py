"""Tools by the openai package: every choice, whole and in chunks, one call and several."""

import json

import jsonschema
import openai
import pydantic
import pytest

QUIET = {"thinking": {"type": "disabled"}}
ASKED = [{"role": "user", "content": "weather in Oslo?"}]
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def tool(name, parameters):
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


TOOLS = [tool("weather", PLACE), tool("now", NOTHING)]
SCHEMAS = {"weather": PLACE, "now": NOTHING}


def ask(client, **more):
    more = {"model": "tiny", "messages": ASKED, "tools": TOOLS, "max_tokens": 400, "extra_body": QUIET, **more}
    return client.chat.completions.create(**more)


def check(calls):
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function" and call.id
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    return [(call.function.name, call.function.arguments) for call in calls]


@pytest.mark.parametrize("body", [{}, QUIET], ids=["thinking", "quiet"])
@pytest.mark.parametrize("streams", [False, True])
def test_required(client, body, streams):
    for seed in range(4):
        more = {"tool_choice": "required", "seed": seed, "parallel_tool_calls": False, "extra_body": body}
        answer = ask(client, **more, stream=streams)
        if streams:
            answer = joined(answer)
        (choice,) = answer.choices
        if choice.model_extra.get("finish_details", {}).get("ended_in_thought"):
            continue
        (call,) = choice.message.tool_calls
        check([call])
        assert choice.finish_reason == "tool_calls" and not choice.message.content


def joined(chunks):
    """A whole answer of its chunks, by the openai package's own hand."""
    from openai.lib.streaming.chat import ChatCompletionStreamState

    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    return state.get_final_completion()


@pytest.mark.parametrize("name", ["weather", "now"])
def test_named(client, name):
    for seed in range(3):
        choice = {"type": "function", "function": {"name": name}}
        answer = ask(client, tool_choice=choice, seed=seed, parallel_tool_calls=False)
        assert [called for called, _ in check(answer.choices[0].message.tool_calls)] == [name]


def test_allowed(client):
    choose = lambda mode: {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [{"type": "function", "function": {"name": "now"}}]},
    }
    for seed in range(3):
        answer = ask(client, tool_choice=choose("required"), seed=seed, parallel_tool_calls=False)
        assert check(answer.choices[0].message.tool_calls)[0][0] == "now"
        answer = ask(client, tool_choice=choose("auto"), seed=seed)
        assert {name for name, _ in check(answer.choices[0].message.tool_calls or [])} <= {"now"}


def test_auto_and_none(client, special):
    calling = {str(special["<tool_call>"]): 100}
    answer = ask(client, tool_choice="auto", logit_bias=calling, parallel_tool_calls=False)
    check(answer.choices[0].message.tool_calls)
    assert answer.choices[0].finish_reason == "tool_calls"
    for seed in range(5):
        answer = ask(client, tool_choice="none", seed=seed)
        assert not answer.choices[0].message.tool_calls and answer.choices[0].finish_reason == "stop"
    silent = {str(special["<tool_call>"]): -100}
    answer = ask(client, logit_bias=silent, seed=1)
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls


def test_parallel(client, special):
    """Several calls in one answer, whole and in chunks alike."""
    again = {str(special["<|im_end|>"]): -5}
    counts = set()
    for seed in range(12):
        more = {"seed": seed, "tool_choice": "required", "logit_bias": again}
        whole = ask(client, **more).choices[0]
        if whole.finish_reason == "length":
            continue
        said = check(whole.message.tool_calls)
        counts.add(len(said))
        chunks = joined(ask(client, stream=True, **more)).choices[0]
        assert check(chunks.message.tool_calls) == said and chunks.finish_reason == "tool_calls"
        one = ask(client, parallel_tool_calls=False, **more).choices[0].message.tool_calls
        assert check(one) == said[:1]
    assert max(counts) >= 2


def test_fragments(client):
    """Id and name come once, with the first fragment of a call."""
    chunks = ask(client, stream=True, tool_choice="required", parallel_tool_calls=False, seed=2)
    fragments = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    first, *rest = fragments
    assert first.id and first.type == "function" and first.function.name and first.function.arguments == ""
    assert rest and all(one.id is None and one.function.name is None and one.index == 0 for one in rest)


class Weather(pydantic.BaseModel):
    """Tells the weather."""

    city: str = pydantic.Field(max_length=8)
    days: int


def test_the_packages_own_stream(client):
    tools = [openai.pydantic_function_tool(Weather)]
    more = {"model": "tiny", "messages": ASKED, "tools": tools, "tool_choice": "required", "seed": 3}
    more |= {"extra_body": QUIET, "max_tokens": 400, "parallel_tool_calls": False}
    kinds, seen = [], ""
    with client.chat.completions.stream(**more) as stream:
        for event in stream:
            kinds.append(event.type)
            if event.type == "tool_calls.function.arguments.delta":
                seen += event.arguments_delta
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather) and call.function.arguments == seen
    assert kinds[0] == "chunk" and "tool_calls.function.arguments.done" in kinds
    whole = client.chat.completions.parse(**more)
    assert whole.choices[0].message.tool_calls[0].function.parsed_arguments == call.function.parsed_arguments


def test_results_go_back(client):
    made = ask(client, tool_choice="required", seed=2, parallel_tool_calls=False).choices[0].message
    messages = [*ASKED, made.to_dict()]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in made.tool_calls]
    answer = ask(client, messages=messages, tool_choice="none", seed=1)
    assert answer.choices[0].message.content


def test_tools_with_a_form(client):
    """Where a form is wanted as well, an answer is of that form or a call."""
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": PLACE, "strict": True}}
    kinds = set()
    for seed in range(8):
        (choice,) = ask(client, response_format=form, seed=seed).choices
        if choice.message.tool_calls and choice.finish_reason != "length":
            check(choice.message.tool_calls)
            kinds.add("call")
        elif choice.finish_reason == "stop":
            jsonschema.validate(json.loads(choice.message.content), PLACE)
            kinds.add("form")
    assert kinds


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools[1].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"messages": [*ASKED, {"role": "tool", "tool_call_id": "x", "content": ""}]}, "messages[1].tool_call_id"),
        ({"extra_body": {"functions": []}}, "functions"),
    ],
)
def test_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **more)
    assert refused.value.param == param
