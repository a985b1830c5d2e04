"""Completions, models, tokens and the routes that operators use."""

import json
import math
import urllib.error

import openai
import pytest


def ask(client, **more):
    return client.completions.create(**{"model": "tiny", "prompt": "once", "seed": 1, "max_tokens": 24, **more})


def test_completions(client):
    answer = ask(client)
    (choice,) = answer.choices
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and choice.index == 0
    assert choice.text and choice.finish_reason in ("stop", "length") and choice.logprobs is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert ask(client, max_tokens=openai.omit, extra_body={"ignore_eos": True}).usage.completion_tokens == 16


@pytest.mark.parametrize("n", [1, 3])
def test_chunks_are_the_whole_answer(client, n):
    prompts = ["once", "twice"]
    whole = ask(client, prompt=prompts, n=n)
    assert [choice.index for choice in whole.choices] == list(range(2 * n))
    texts, reasons = {}, {}
    for chunk in ask(client, prompt=prompts, n=n, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            reasons[choice.index] = choice.finish_reason
        usage = chunk.usage
    assert usage.completion_tokens == whole.usage.completion_tokens
    for choice in whole.choices:
        assert texts[choice.index] == choice.text and reasons[choice.index] == choice.finish_reason


def test_prompts_in_all_forms(client, server):
    once, twice = server.ids("once"), server.ids("twice")
    texts = [choice.text for choice in ask(client, prompt=["once", "twice"]).choices]
    assert [choice.text for choice in ask(client, prompt=[once, twice]).choices] == texts
    assert ask(client, prompt=once).choices[0].text == texts[0] == ask(client).choices[0].text


def test_echo_and_log_probabilities(client, server):
    prompt = "the weather in the north"
    ids = server.ids(prompt)
    answer = ask(client, prompt=ids, echo=True, logprobs=2, max_tokens=3, extra_body={"ignore_eos": True})
    (choice,) = answer.choices
    shown = choice.logprobs
    assert choice.text.startswith(prompt) and len(shown.tokens) == len(ids) + 3
    assert shown.token_logprobs[0] is None and shown.top_logprobs[0] is None
    assert "".join(shown.tokens[: len(ids)]) == prompt
    for place, (token, chosen, tops) in enumerate(zip(shown.tokens, shown.token_logprobs, shown.top_logprobs)):
        assert choice.text[shown.text_offset[place] :].startswith(token) or place >= len(ids)
        if place:
            assert chosen <= 0 and len(tops) in (2, 3) and token in tops
            assert max(tops.values()) >= chosen and sum(map(math.exp, tops.values())) <= 1 + 1e-5
    none = ask(client, prompt=ids, echo=True, logprobs=2, max_tokens=0).choices[0]
    assert none.text == prompt and none.logprobs.token_logprobs == shown.token_logprobs[: len(ids)]
    alone = ask(client, prompt=[ids, ids[:3]], echo=True, logprobs=2, max_tokens=0).choices
    assert alone[0].logprobs == none.logprobs and alone[1].logprobs.token_logprobs == shown.token_logprobs[:3]


def test_stop_and_suffix(client):
    text = ask(client, seed=2).choices[0].text
    assert ask(client, seed=2, stop=text[4:6]).choices[0].text == text[: text.index(text[4:6])]
    # The model has no tokens for the middle of texts.
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, suffix="end")
    assert refused.value.param == "suffix"


def test_models(client):
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"tiny", "gpt-6-astra"}
    for name, model in listed.items():
        assert model.object == "model" and client.models.retrieve(name) == model
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("no/such")
    assert missing.value.code == "model_not_found"


def test_an_alias_is_the_model(client):
    messages = [{"role": "user", "content": "hello"}]
    by_alias, by_name = (
        client.chat.completions.create(model=name, messages=messages, seed=3) for name in ("gpt-6-astra", "tiny")
    )
    assert by_alias.choices == by_name.choices


def test_no_embeddings(client):
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="tiny", input="x")


@pytest.mark.parametrize("text", ["plain", "Ünïcode 日本 🎈", " two  spaces\n\n", "<|im_end|>", ""])
def test_tokens_and_back(server, text):
    tokens = server.post("/tokenize", {"model": "tiny", "prompt": text})
    assert tokens["count"] == len(tokens["tokens"])
    back = server.post("/detokenize", {"model": "tiny", "tokens": tokens["tokens"]})
    assert back["prompt"] == text


def test_tokens_of_a_conversation(client, server, special):
    messages = [{"role": "user", "content": "a <|im_end|> b"}]
    tokens = server.post("/tokenize", {"model": "tiny", "messages": messages})["tokens"]
    answer = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=1, extra_body={"return_token_ids": True}
    )
    assert answer.model_extra["prompt_token_ids"] == tokens
    # Marks that a client writes are text.
    assert tokens.count(special["<|im_end|>"]) == 1


def test_operators_routes(server):
    for path in ("/livez", "/readyz", "/health"):
        server.get(path)
    assert "openapi" in json.loads(server.get("/openapi.json"))
    metrics = server.get("/metrics")
    assert metrics.count("\n# TYPE ") >= 5
    assert "chat_template" in json.loads(server.get("/tokenizer_info?model=tiny"))


def test_ollamas_clients_find_the_model(server):
    assert json.loads(server.get("/api/version"))["version"]
    assert "tiny" in [model["name"].split(":")[0] for model in json.loads(server.get("/api/tags"))["models"]]
    answer = server.post("/api/chat", {"model": "tiny", "stream": False, "messages": [{"role": "user", "content": "hi"}]})
    assert answer["done"] and answer["message"]["role"] == "assistant" and answer["eval_count"] > 0
    with pytest.raises(urllib.error.HTTPError) as missing:
        server.post("/api/show", {"model": "nothing"})
    assert missing.value.code == 404 and "error" in json.load(missing.value)
