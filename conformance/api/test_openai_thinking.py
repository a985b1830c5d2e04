"""Thinking on, off and within bounds, by every spelling, through the openai package."""

import openai
import pytest

from serving import Server

HELLO = [{"role": "user", "content": "hello"}]
OFF = [
    {"thinking": {"type": "disabled"}},
    {"reasoning_effort": "none"},
    {"thinking_token_budget": 0},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
]
ON = [
    {},
    {"thinking": {"type": "enabled"}},
    {"reasoning_effort": "low"},
    {"thinking_token_budget": -1},
    {"thinking_token_budget": 5000},
    {"chat_template_kwargs": {"enable_thinking": True}},
]


def ask(client, *, body=(), **more):
    body = {"return_token_ids": True, **dict(body)}
    more = {"model": "tiny", "messages": HELLO, "seed": 4, "max_tokens": 600, **more}
    return client.chat.completions.create(**more, extra_body=body)


def thought_of(message):
    return (message.model_extra or {}).get("reasoning_content")


def details_of(choice):
    return (choice.model_extra or {}).get("finish_details") or {}


@pytest.mark.parametrize("body", OFF, ids=str)
def test_off(client, body):
    answers = [ask(client, body=body), ask(client, body=OFF[0])]
    assert answers[0].choices[0].message == answers[1].choices[0].message
    message = answers[0].choices[0].message
    assert "reasoning_content" not in message.model_extra and message.content
    assert answers[0].usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("body", ON, ids=str)
def test_on(client, special, seed, body):
    """Reasoning tokens are counted by ids: all up to the mark that closes the thought."""
    answer = ask(client, body=body, seed=seed)
    (choice,) = answer.choices
    ids = choice.token_ids
    assert thought_of(choice.message) and choice.message.content
    assert len(ids) == answer.usage.completion_tokens
    reasoning = answer.usage.completion_tokens_details.reasoning_tokens
    assert reasoning == ids.index(special["</think>"]) + 1
    assert details_of(choice) == {}


def test_counts_of_several_answers(client, special):
    for seed in range(6):
        answer = ask(client, seed=seed, n=4)
        thoughts = 0
        for choice in answer.choices:
            ids = choice.token_ids
            closed = special["</think>"] in ids
            ended = ids[-1] == special["<|im_end|>"]
            thoughts += ids.index(special["</think>"]) + 1 if closed else len(ids) - ended
            assert details_of(choice).get("ended_in_thought", False) is not closed
        assert answer.usage.completion_tokens_details.reasoning_tokens == thoughts
        assert answer.usage.completion_tokens == sum(len(choice.token_ids) for choice in answer.choices)


BUDGETS = [
    {"thinking_token_budget": 12},
    {"thinking": {"type": "enabled", "budget_tokens": 12}},
    {"reasoning_effort": "high", "thinking_token_budget": 12},
]


@pytest.mark.parametrize("body", BUDGETS, ids=str)
def test_a_budget_closes_the_thought_and_the_answer_comes(client, special, body):
    # Without these ends the thought would go on for ever.
    endless = {str(special[mark]): -100 for mark in ("</think>", "<|im_end|>")}
    answer = ask(client, body=body, logit_bias=endless, max_tokens=60)
    (choice,) = answer.choices
    ids = choice.token_ids
    assert ids.index(special["</think>"]) <= 12 and details_of(choice)["thought_closed"] == "budget"
    assert choice.message.content and thought_of(choice.message) and len(ids) == 60
    reasoning = answer.usage.completion_tokens_details.reasoning_tokens
    assert reasoning == ids.index(special["</think>"]) + 1


def test_thought_is_stopped_on_request(client, server, special):
    endless = {str(special[mark]): -100 for mark in ("</think>", "<|im_end|>")}
    stream = ask(client, logit_bias=endless, max_tokens=4000, stream=True, temperature=1.3)
    is_asked, text, last = False, "", None
    for chunk in stream:
        if thought_of(chunk.choices[0].delta) and not is_asked:
            is_asked = True
            answer = server.post(f"/v1/chat/completions/{chunk.id}/stop_thinking", {})
            assert answer == {"id": chunk.id, "object": "chat.completion.stop_thinking", "stopped": True}
        text += chunk.choices[0].delta.content or ""
        last = chunk.choices[0]
        if len(text) > 40:
            break
    stream.close()
    assert is_asked and text
    with pytest.raises(openai.NotFoundError):
        client.post("/chat/completions/chatcmpl-none/stop_thinking", cast_to=object, body={})


def test_a_stopped_thought_is_told(client, server, special):
    endless = {str(special["</think>"]): -100, str(special["<|im_end|>"]): -3}
    stream = ask(client, logit_bias=endless, max_tokens=6000, stream=True)
    is_asked = False
    for chunk in stream:
        if not is_asked:
            is_asked = True
            server.post(f"/v1/chat/completions/{chunk.id}/stop_thinking", {})
        last = chunk.choices[0]
    assert details_of(last).get("thought_closed") == "asked" or details_of(last).get("ended_in_thought")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, "reasoning_effort"),
        ({"thinking": {"type": "enabled"}, "chat_template_kwargs": {"enable_thinking": False}},
         "chat_template_kwargs.enable_thinking"),
        ({"reasoning_effort": "hard"}, "reasoning_effort"),
        ({"thinking": {"type": "adaptive"}}, "thinking.type"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
    ],
)
def test_contradictions_are_refused(client, body, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, body=body)
    assert refused.value.param == param


@pytest.mark.parametrize("field", ["reasoning", "both"])
def test_the_other_name_of_thoughts(client, field):
    with Server("--reasoning-field", field) as server:
        own = openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0)
        message = ask(own).choices[0].message
        usual = thought_of(ask(client).choices[0].message)
        assert message.model_extra["reasoning"] == usual
        assert message.model_extra.get("reasoning_content") == (usual if field == "both" else None)
        deltas = [chunk.choices[0].delta.model_extra or {} for chunk in ask(own, stream=True)]
        assert "".join(delta.get("reasoning") or "" for delta in deltas) == usual


def test_efforts_are_the_operators(special):
    config = "[reasoning]\neffort_minimal = 5\neffort_low = 9\ndefault_budget = 14\n"
    endless = {str(special[mark]): -100 for mark in ("</think>", "<|im_end|>")}
    with Server(config=config) as server:
        own = openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0)
        for body, budget in (({"reasoning_effort": "minimal"}, 5), ({"reasoning_effort": "low"}, 9), ({}, 14)):
            ids = ask(own, body=body, logit_bias=endless, max_tokens=40).choices[0].token_ids
            assert ids.index(special["</think>"]) <= budget, body


@pytest.mark.parametrize("checker", ["majority", "math", "json"])
def test_verified_answers(client, checker):
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": list(range(8))}}}}
    body = {"verify": {"samples": 5, "checker": checker}, "thinking": {"type": "disabled"}}
    answer = ask(client, body=body, **form)
    (choice,) = answer.choices
    verdict = answer.usage.model_extra["verified"]
    same = [one["result"] == verdict["verdicts"][verdict["chosen"]]["result"] for one in verdict["verdicts"]]
    assert int(choice.message.content) in range(8) and verdict["checker"] == checker
    assert verdict["samples"] == 5 == len(verdict["verdicts"]) and verdict["is_verified"]
    assert verdict["agreement"] == sum(same) / 5 and answer.usage.completion_tokens >= 5
