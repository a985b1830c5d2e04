"""Messages by the anthropic package: whole, as events, thoughts, tools, counts, and what goes wrong."""

import json

import anthropic
import jsonschema
import pytest

from serving import Server

HELLO = [{"role": "user", "content": "hello"}]
NOW = {"name": "now", "description": "the time"}
NOW["input_schema"] = {
    "type": "object", "properties": {"zone": {"enum": ["utc", "cet"]}}, "required": ["zone"],
    "additionalProperties": False,
}
QUIET = {"thinking": {"type": "disabled"}}


# Fields that servers take and this version of the package does not offer.
UNOFFERED = ("temperature", "top_p", "top_k")


def ask(claude, **more):
    body = {name: more.pop(name) for name in UNOFFERED if name in more} | more.pop("extra_body", {})
    more = {"model": "tiny", "messages": HELLO, "max_tokens": 600, "extra_body": body, **more}
    return claude.messages.create(**more)


def kinds(message):
    return [block.type for block in message.content]


@pytest.fixture(scope="module")
def thoughtful(claude):
    for _ in range(200):
        message = ask(claude)
        if kinds(message) == ["thinking", "text"] and message.content[1].text:
            return message
    raise AssertionError("no message with both")


def test_whole(thoughtful):
    message = thoughtful
    assert message.id.startswith("msg_") and message.type == "message" and message.role == "assistant"
    assert message.model == "tiny" and message.stop_reason == "end_turn" and message.stop_sequence is None
    thought, text = message.content
    assert thought.thinking and thought.signature and text.text
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 5
    assert message.usage.output_tokens > 2


def test_greedy_is_as_in_chat(claude, client):
    message = ask(claude, temperature=0, max_tokens=25, **QUIET)
    chat = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=25, reasoning_effort="none"
    )
    assert "".join(block.text for block in message.content) == chat.choices[0].message.content
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 25
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert ask(claude, messages=parts, temperature=0, max_tokens=25, **QUIET).content == message.content


def test_events(claude):
    for _ in range(6):
        events = list(ask(claude, stream=True))
        names = [event.type for event in events if event.type != "ping"]
        assert names[0] == "message_start" and names[-2:] == ["message_delta", "message_stop"]
        start, end = events[0].message, [event for event in events if event.type == "message_delta"][0]
        assert start.content == [] and start.stop_reason is None and start.usage.input_tokens >= 0
        assert end.delta.stop_reason in ("end_turn", "max_tokens") and end.usage.output_tokens > 0
        open_block = None
        for event in events:
            match event.type:
                case "content_block_start":
                    assert open_block is None
                    open_block = event.index
                case "content_block_delta":
                    assert event.index == open_block
                case "content_block_stop":
                    assert event.index == open_block
                    open_block = None
        starts = [event.index for event in events if event.type == "content_block_start"]
        assert open_block is None and starts == list(range(len(starts)))


def test_the_packages_own_stream(claude):
    with claude.messages.stream(model="tiny", messages=HELLO, max_tokens=300, **QUIET) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(block.text for block in final.content) == text and final.usage.output_tokens > 0


def test_stop_sequences(claude):
    more = {"temperature": 0, "max_tokens": 25, **QUIET}
    text = ask(claude, **more).content[0].text
    stop = text[4:7]
    message = ask(claude, stop_sequences=["nothing such", stop], **more)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert message.content[0].text == text[: text.index(stop)]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "now"}], ids=["any", "tool"])
def test_tools(claude, streams, choice):
    more = {"tools": [NOW], "tool_choice": {**choice, "disable_parallel_tool_use": True}, **QUIET}
    if streams:
        with claude.messages.stream(model="tiny", messages=HELLO, max_tokens=400, **more) as stream:
            deltas = [event.partial_json for event in stream if event.type == "input_json"]
            message = stream.get_final_message()
        assert json.loads("".join(deltas)) == message.content[-1].input
    else:
        message = ask(claude, **more)
    (call,) = message.content
    assert message.stop_reason == "tool_use" and call.type == "tool_use" and call.name == "now" and call.id
    jsonschema.validate(call.input, NOW["input_schema"])
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "noon"}]}
    turns = [*HELLO, {"role": "assistant", "content": [call.to_dict()]}, {"role": "user", "content": [result]}]
    assert ask(claude, messages=turns, tools=[NOW], tool_choice={"type": "none"}, **QUIET).content


def test_thinking(claude, special):
    for _ in range(5):
        assert set(kinds(ask(claude, **QUIET))) <= {"text"}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    messages = [ask(claude, max_tokens=1500, thinking=thinking) for _ in range(8)]
    assert "thinking" in {kind for message in messages for kind in kinds(message)[:1]}


def test_a_message_goes_back_as_it_came(claude, thoughtful):
    turns = [*HELLO, {"role": "assistant", "content": [b.to_dict() for b in thoughtful.content]}, *HELLO]
    assert ask(claude, messages=turns, system="be short").content


def test_counts(claude):
    for more in ({}, {"system": "be short"}, {"tools": [NOW]}, {"thinking": {"type": "disabled"}}):
        count = claude.messages.count_tokens(model="tiny", messages=HELLO, **more).input_tokens
        usage = ask(claude, **{"max_tokens": 5, **more}).usage
        assert count == usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def test_other_fields(claude):
    text = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}
    message = ask(
        claude, messages=[{"role": "user", "content": [text]}], system=[{"type": "text", "text": "be short"}],
        metadata={"user_id": "me"}, top_k=5, top_p=0.9, service_tier="auto",
    )
    assert message.content


@pytest.mark.parametrize(
    ("more", "error", "kind"),
    [
        ({"model": "claude-0"}, anthropic.NotFoundError, "not_found_error"),
        ({"temperature": 2}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
        ({"extra_body": {"colour": 1}}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": "long " * 20_000}]}, anthropic.BadRequestError, "invalid_request_error"),
        ({"tools": [NOW], "tool_choice": {"type": "tool", "name": "x"}}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_refused(claude, more, error, kind):
    with pytest.raises(error) as refused:
        ask(claude, **more)
    body = refused.value.body
    assert body["type"] == "error" and body["error"]["type"] == kind and body["error"]["message"]


def test_keys(special):
    keys = [("all",), ("other", "--model", "elsewhere"), ("slow", "--requests-per-minute", "1")]
    with Server("--keys-required", keys=keys) as server:
        of = lambda key: anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0)
        assert ask(of(server.keys["all"])).content is not None
        with pytest.raises(anthropic.AuthenticationError) as refused:
            ask(of("none"))
        assert refused.value.body["error"]["type"] == "authentication_error"
        with pytest.raises(anthropic.PermissionDeniedError):
            ask(of(server.keys["other"]))
        ask(of(server.keys["slow"]))
        with pytest.raises(anthropic.RateLimitError) as refused:
            ask(of(server.keys["slow"]))
        assert refused.value.body["error"]["type"] == "rate_limit_error"
        by_token = anthropic.Anthropic(base_url=server.url, auth_token=server.keys["all"], max_retries=0)
        assert ask(by_token).role == "assistant"


def test_failures_amid_a_stream(special):
    with Server(config="[server]\nrequest_seconds = 1\n") as server:
        claude = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
        # A text that must be long takes longer than a second.
        form = {"format": {"type": "json_schema", "schema": {"type": "string", "minLength": 9000}}}
        with pytest.raises(anthropic.APIError) as failed:
            for _ in ask(claude, stream=True, max_tokens=16_000, output_config=form, **QUIET):
                pass
        assert failed.value.body["error"]["type"] == "overloaded_error"
