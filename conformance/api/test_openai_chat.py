"""Chat completions by the openai package: whole, in chunks, and every way to draw tokens."""

import asyncio
import math

import openai
import pytest

HELLO = [{"role": "user", "content": "hello"}]
QUIET = {"thinking": {"type": "disabled"}}


def ask(client, **more):
    more = {"model": "tiny", "messages": HELLO, "seed": 1, "extra_body": QUIET, **more}
    return client.chat.completions.create(**more)


def thought_of(message):
    return (message.model_extra or {}).get("reasoning_content")


def test_whole(client, seed):
    answer = ask(client, seed=seed, extra_body={"return_token_ids": True})
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    assert answer.model == "tiny" and answer.system_fingerprint and answer.created > 1_700_000_000
    (choice,) = answer.choices
    assert choice.index == 0 and choice.finish_reason == "stop" and choice.message.role == "assistant"
    assert choice.message.content and thought_of(choice.message)
    for name in ("logprobs", "finish_reason"):
        assert name in choice.model_fields_set
    assert "refusal" in choice.message.model_fields_set and choice.message.refusal is None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens == len(answer.model_extra["prompt_token_ids"])
    hit, miss = (usage.model_extra[f"prompt_cache_{what}_tokens"] for what in ("hit", "miss"))
    assert hit + miss == usage.prompt_tokens and hit == usage.prompt_tokens_details.cached_tokens
    assert answer._request_id


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("body", [{}, QUIET], ids=["thinking", "quiet"])
def test_chunks_are_the_whole_answer(client, n, body):
    whole = ask(client, n=n, extra_body=body)
    chunks = list(ask(client, n=n, extra_body=body, stream=True, stream_options={"include_usage": True}))
    heads = {(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}
    assert len(heads) == 1 and chunks[0].object == "chat.completion.chunk"
    *chunks, last = chunks
    assert last.choices == [] and all(chunk.usage is None for chunk in chunks)
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    for choice in whole.choices:
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert own[0].delta.role == "assistant" and own[0].delta.content == ""
        kinds = ["t" if thought_of(one.delta) else "c" for one in own[1:-1]]
        assert "".join(kinds).lstrip("t").rstrip("c") == ""
        assert "".join(thought_of(one.delta) or "" for one in own) == (thought_of(choice.message) or "")
        assert "".join(one.delta.content or "" for one in own) == choice.message.content
        assert [one.finish_reason for one in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == choice.finish_reason and own[-1].delta.content is None
    said = [(thought_of(choice.message), choice.message.content) for choice in whole.choices]
    assert len(set(said)) == n


def test_no_usage_unless_asked_for(client):
    chunks = list(ask(client, stream=True))
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_seeds_name_answers(client):
    texts = [ask(client, seed=seed).choices[0].message.content for seed in (5, 5, 6, -7, -7)]
    assert texts[0] == texts[1] != texts[2] and texts[3] == texts[4] != texts[0]
    unseeded = {ask(client, seed=openai.omit).choices[0].message.content for _ in range(3)}
    assert len(unseeded) == 3


def test_the_same_alone_and_in_company(server):
    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=server.v1, api_key="none", max_retries=0) as client:
            together = await asyncio.gather(*(ask(client, seed=seed) for seed in range(12)))
            alone = [await ask(client, seed=seed) for seed in range(12)]
        return together, alone

    together, alone = asyncio.run(all_at_once())
    assert [a.choices[0].message for a in together] == [a.choices[0].message for a in alone]


def test_greedy_is_greedy(client):
    answers = [{"temperature": 0, "seed": 1}, {"temperature": 0, "seed": 2}, {"extra_body": {**QUIET, "top_k": 1}}]
    answers.append({"top_p": 0})
    texts = {ask(client, max_tokens=20, **more).choices[0].message.content for more in answers}
    assert len(texts) == 1


@pytest.mark.parametrize("streams", [False, True])
def test_stops(client, seed, streams):
    text = ask(client, seed=seed, extra_body={}).choices[0].message.content
    for stop in (text[5:8], [text[5:8]], ["never \0 there", text[5:8]]):
        answer = ask(client, seed=seed, stop=stop, stream=streams, extra_body={})
        if streams:
            chunks = [chunk.choices[0] for chunk in answer]
            said, reason = "".join(one.delta.content or "" for one in chunks), chunks[-1].finish_reason
        else:
            said, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert (said, reason) == (text[: text.index(text[5:8])], "stop")


def test_biases(client, server):
    (z,) = server.ids("Z")
    answer = ask(client, logit_bias={str(z): 100}, max_tokens=9)
    assert answer.choices[0].message.content == "Z" * 9 and answer.choices[0].finish_reason == "length"
    ids = lambda **more: ask(client, extra_body={**QUIET, "return_token_ids": True}, **more).choices[0].token_ids
    seen = ids()
    assert seen[0] not in ids(logit_bias={str(seen[0]): -100})


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_lengths(client, name):
    for most in (1, 7):
        answer = ask(client, **{name: most}, extra_body={"ignore_eos": True})
        assert answer.usage.completion_tokens == most and answer.choices[0].finish_reason == "length"


def test_log_probabilities(client):
    for more in ({"temperature": 0}, {"temperature": 1}, {"temperature": 0.3, "presence_penalty": 1}):
        answer = ask(client, logprobs=True, top_logprobs=5, max_tokens=30, **more)
        (choice,) = answer.choices
        items = choice.logprobs.content
        assert choice.logprobs.refusal is None
        # Marks and ends are tokens, but no text.
        assert answer.usage.completion_tokens >= len(items)
        said = b"".join(bytes(item.bytes) for item in items)
        assert said.decode(errors="replace") == choice.message.content
        for item in items:
            tops = [top.logprob for top in item.top_logprobs]
            assert len(tops) == 5 and tops == sorted(tops, reverse=True) and item.logprob <= tops[0] <= 0
            assert sum(map(math.exp, tops)) <= 1 + 1e-5
            same = [top.logprob for top in item.top_logprobs if top.bytes == item.bytes]
            assert same == [item.logprob] * len(same) and (same or item.logprob <= tops[-1])
            if more == {"temperature": 0}:
                assert item.logprob == tops[0] and item.token == item.top_logprobs[0].token


def test_log_probabilities_in_chunks(client):
    more = {"logprobs": True, "top_logprobs": 2}
    whole = ask(client, **more).choices[0].logprobs.content
    chunks = [chunk.choices[0].logprobs for chunk in ask(client, stream=True, **more)]
    assert [item for one in chunks if one for item in one.content or []] == whole
    bare = ask(client, logprobs=True).choices[0].logprobs.content
    assert bare[0].top_logprobs == [] and bare[0].logprob == whole[0].logprob


def test_log_probabilities_do_not_depend_on_company(client):
    alone = ask(client, logprobs=True).choices[0].logprobs
    first, *_ = ask(client, logprobs=True, n=4).choices
    assert first.logprobs == alone


def test_roles_and_parts(client):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "developer", "content": "be short", "name": "boss"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}], "refusal": None},
        {"role": "user", "content": "more"},
    ]
    assert ask(client, messages=messages).choices[0].message.content
    same = [{"role": "user", "content": "a\nb"}], [{"role": "user", "content": parts}]
    assert len({ask(client, messages=m).choices[0].message.content for m in same}) == 1


def test_an_answer_goes_back_as_it_came(client):
    first = ask(client, extra_body={}).choices[0].message
    messages = [*HELLO, first.to_dict(), *HELLO]
    assert ask(client, messages=messages).choices[0].message.content


def test_prefixes(client):
    last = {"role": "assistant", "content": "It is"}
    by_mark = ask(client, messages=[*HELLO, {**last, "prefix": True}]).choices[0].message
    by_field = ask(client, messages=[*HELLO, last], extra_body={**QUIET, "continue_final_message": True})
    assert by_mark == by_field.choices[0].message


def test_fields_without_effect_are_told(client):
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=HELLO, metadata={"a": "b"}, verbosity="low", service_tier="auto", store=False,
        user="me", prompt_cache_key="k", safety_identifier="s", max_tokens=2,
    )
    told = set(raw.headers["x-frugal-without-effect"].split(", "))
    assert told == {"metadata", "verbosity", "service_tier", "prompt_cache_key", "safety_identifier"}
    assert raw.parse().service_tier == "default"


def test_the_next_turn_is_found_in_the_cache(client):
    first = ask(client, messages=[{"role": "user", "content": "a long question, " * 30}])
    turns = [{"role": "user", "content": "a long question, " * 30}, first.choices[0].message.to_dict(), *HELLO]
    second = ask(client, messages=turns)
    assert second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens * 0.9
