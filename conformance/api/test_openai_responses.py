"""Responses by the openai package: whole, as events, with tools, of a form, and what is refused."""

import json
from typing import Literal

import openai
import pydantic
import pytest

NOW = {"type": "function", "name": "now", "description": "the time", "strict": True}
NOW["parameters"] = {"type": "object", "properties": {"zone": {"enum": ["utc", "cet"]}}}
NOW["parameters"] |= {"required": ["zone"], "additionalProperties": False}
QUIET = {"reasoning": {"effort": "none"}}


def ask(client, **more):
    return client.responses.create(**{"model": "tiny", "input": "hello", "max_output_tokens": 600, **more})


def kinds(response):
    return [item.type for item in response.output]


@pytest.fixture(scope="module")
def thoughtful(client):
    """A response with a thought and a message: seeds are no part of this interface."""
    for _ in range(200):
        response = ask(client)
        if kinds(response) == ["reasoning", "message"] and response.output_text:
            return response
    raise AssertionError("no response with both")


def test_whole(thoughtful):
    response = thoughtful
    assert response.id.startswith("resp_") and response.object == "response" and response.model == "tiny"
    assert response.status == "completed" and response.error is None and response.incomplete_details is None
    thought, message = response.output
    assert thought.id and message.id and message.role == "assistant" and message.status == "completed"
    assert message.content[0].type == "output_text" and message.content[0].annotations == []
    assert response.output_text == "".join(part.text for part in message.content)
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens
    assert usage.input_tokens_details.cached_tokens <= usage.input_tokens


def test_greedy_is_as_in_chat(client):
    more = {"temperature": 0, "max_output_tokens": 25}
    response = ask(client, **more, **QUIET)
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=25,
        reasoning_effort="none",
    )
    assert response.output_text == chat.choices[0].message.content
    items = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    assert ask(client, **{**more, "input": items}, **QUIET).output_text == response.output_text


def test_incomplete(client, special):
    response = ask(client, max_output_tokens=4, temperature=0, **QUIET)
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 4


def test_events(client):
    for _ in range(6):
        events = list(ask(client, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        names = [event.type for event in events]
        assert names[:2] == ["response.created", "response.in_progress"]
        assert names[-1] in ("response.completed", "response.incomplete")
        final, open_items, texts = events[-1].response, {}, {}
        for event in events[2:-1]:
            match event.type:
                case "response.output_item.added":
                    assert event.output_index == len(open_items)
                    open_items[event.output_index] = event.item.id
                case "response.output_text.delta" | "response.reasoning_text.delta":
                    assert open_items[event.output_index] == event.item_id
                    texts[event.item_id] = texts.get(event.item_id, "") + event.delta
                case "response.output_text.done" | "response.reasoning_text.done":
                    assert event.text == texts.get(event.item_id, "")
                case "response.output_item.done":
                    assert event.item == final.output[event.output_index]
        assert len(open_items) == len(final.output)


def test_the_packages_own_stream(client):
    with client.responses.stream(model="tiny", input="hello", **QUIET) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text and final.status == "completed"


@pytest.mark.parametrize("streams", [False, True])
def test_tools(client, streams):
    more = {"tools": [NOW], "tool_choice": "required", "parallel_tool_calls": False, **QUIET}
    if streams:
        events = list(ask(client, stream=True, **more))
        response = events[-1].response
        deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
        assert "".join(deltas) == done.arguments
    else:
        response = ask(client, **more)
    (call,) = response.output
    assert call.type == "function_call" and call.name == "now" and call.call_id and call.status == "completed"
    assert json.loads(call.arguments)["zone"] in ("utc", "cet")
    if streams:
        assert done.arguments == call.arguments
    turns = [{"role": "user", "content": "hello"}, call.to_dict()]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "noon"})
    assert ask(client, input=turns, tools=[NOW], tool_choice="none", **QUIET).status == "completed"


def test_named_and_allowed_tools(client):
    other = {**NOW, "name": "other"}
    function = {"type": "function", "name": "other"}
    for choice in (function, {"type": "allowed_tools", "mode": "required", "tools": [function]}):
        response = ask(client, tools=[NOW, other], tool_choice=choice, parallel_tool_calls=False, **QUIET)
        assert [call.name for call in response.output] == ["other"]


def test_a_response_goes_back_as_it_came(client, thoughtful):
    turns = [{"role": "user", "content": "hello"}, *(item.to_dict() for item in thoughtful.output)]
    turns.append({"role": "user", "content": "more"})
    assert ask(client, input=turns, instructions="be short").usage.input_tokens > 20


class Point(pydantic.BaseModel):
    """A point."""

    x: int = pydantic.Field(ge=0, le=9)
    axis: Literal["a", "b"]


def test_parse(client):
    response = client.responses.parse(model="tiny", input="a point", text_format=Point, **QUIET)
    assert isinstance(response.output_parsed, Point)
    with client.responses.stream(model="tiny", input="a point", text_format=Point, **QUIET) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_response().output_parsed, Point)


def test_log_probabilities(client):
    include = ["message.output_text.logprobs"]
    response = ask(client, include=include, top_logprobs=3, temperature=0, max_output_tokens=20, **QUIET)
    (message,) = response.output
    items = message.content[0].logprobs
    said = b"".join(bytes(item.bytes) for item in items).decode(errors="replace")
    assert said == response.output_text and all(len(item.top_logprobs) == 3 for item in items)
    assert all(item.logprob == item.top_logprobs[0].logprob for item in items)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, None),
        ({"temperature": 3}, "temperature"),
        ({"extra_body": {"colour": 1}}, "colour"),
    ],
)
def test_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **more)
    assert param is None or refused.value.param == param
