"""What goes wrong, as the openai package's exceptions: each status has its class, retries are obeyed."""

import concurrent.futures
import http.client
import json
import time

import openai
import pytest

from serving import Server

HELLO = [{"role": "user", "content": "hello"}]


def ask(client, **more):
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 3, **more})


def check_envelope(error, *, type, code=None):
    """The four keys, always."""
    body = error.body
    assert set(body) == {"message", "type", "param", "code"} and body["message"]
    assert (body["type"], body["code"]) == (type, code)
    assert error.request_id


WRONG = [
    ({"temperature": 3}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 100_000}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
     "messages[0].content[0].type"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"9999": 1}}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"presence_penalty": -2.1}, "presence_penalty"),
    ({"store": True}, "store"),
    ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
    ({"seed": "one"}, "seed"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
]


@pytest.mark.parametrize(("more", "param"), WRONG, ids=[param for _, param in WRONG])
def test_bad_requests(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **more)
    assert refused.value.param == param
    check_envelope(refused.value, type="invalid_request_error")


def test_too_long(client):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages=[{"role": "user", "content": "long " * 20_000}])
    check_envelope(refused.value, type="invalid_request_error", code="context_length_exceeded")


def test_unknown(client):
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, model="gpt-0")
    check_envelope(missing.value, type="invalid_request_error", code="model_not_found")
    with pytest.raises(openai.NotFoundError) as missing:
        client.post("/no/such/route", cast_to=object, body={})
    check_envelope(missing.value, type="invalid_request_error", code="route_not_found")
    with pytest.raises(openai.APIStatusError) as other:
        client.get("/chat/completions", cast_to=object)
    assert other.value.status_code == 405
    check_envelope(other.value, type="invalid_request_error", code="method_not_allowed")


RAW = [
    ("{", "application/json", 400, None),
    ("[]", "application/json", 400, None),
    ('{"model": "tiny", "model": "tiny"}', "application/json", 400, None),
    ("\xff", "application/json", 400, None),
    ("{}", "text/plain", 415, "unsupported_media_type"),
    ("[" * 200, "application/json", 400, None),
]


@pytest.mark.parametrize(("body", "kind", "status", "code"), RAW)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize"])
def test_bodies_that_are_none(server, path, body, kind, status, code):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request("POST", path, body.encode("latin-1"), {"Content-Type": kind})
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    connection.close()
    assert (answer.status, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"} and answer.headers["x-request-id"]


def test_keys():
    keys = [("all",), ("other", "--model", "elsewhere"), ("slow", "--requests-per-minute", "2")]
    with Server("--keys-required", keys=keys) as server:
        of = lambda key: openai.OpenAI(base_url=server.v1, api_key=key, max_retries=0)
        assert ask(of(server.keys["all"])).choices
        for wrong in ("none", server.keys["all"][:-1]):
            with pytest.raises(openai.AuthenticationError) as refused:
                ask(of(wrong))
            check_envelope(refused.value, type="authentication_error", code="invalid_api_key")
            assert wrong not in refused.value.message
        with pytest.raises(openai.PermissionDeniedError) as refused:
            ask(of(server.keys["other"]))
        check_envelope(refused.value, type="permission_error", code="model_not_allowed")
        slow = of(server.keys["slow"])
        ask(slow), ask(slow)
        with pytest.raises(openai.RateLimitError) as refused:
            ask(slow)
        check_envelope(refused.value, type="rate_limit_error", code="rate_limit_exceeded")
        assert 0 < int(refused.value.response.headers["retry-after"]) <= 61
        server.frugal("keys", "revoke", "all")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                ask(of(server.keys["all"]))
                time.sleep(0.2)
            except openai.AuthenticationError:
                break
        else:
            raise AssertionError("a revoked key lets in")


def test_a_full_queue_is_waited_for(special):
    """What is over the limit is told to come again, and the package does so after Retry-After."""
    endless = {str(special["<|im_end|>"]): -100}
    config = "[engine]\nmax_sequences = 1\nmax_waiting = 1\n"
    with Server(config=config) as server:
        once = openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0)
        patient = once.with_options(max_retries=4)
        held = ask(once, stream=True, max_tokens=15_000, logit_bias=endless)
        next(iter(held))
        with openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=1) as waiting:
            with pytest.raises(openai.APITimeoutError):
                ask(waiting)
        # Whoever has left waits no more.
        time.sleep(0.3)
        # One runs; of the next two one waits and the other is refused.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            tries = [pool.submit(ask, once) for _ in range(3)]
            time.sleep(0.5)
            began = time.monotonic()
            retried = pool.submit(ask, patient)
            time.sleep(0.5)
            held.close()
            errors = [one.exception() for one in tries]
            refused = [error for error in errors if error]
            assert refused and all(isinstance(error, openai.RateLimitError) for error in refused)
            assert int(refused[0].response.headers["retry-after"]) >= 1
            assert refused[0].type == "overloaded_error"
            # It was refused once, and came again after the second it was told to wait.
            assert retried.result().choices and time.monotonic() - began >= int(refused[0].response.headers["retry-after"])


def test_failures_amid_a_stream(special):
    endless = {str(special["<|im_end|>"]): -100}
    with Server(config="[server]\nrequest_seconds = 1\n") as server:
        client = openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0)
        chunks = []
        with pytest.raises(openai.APIError) as failed:
            for chunk in ask(client, stream=True, n=16, max_tokens=16_000, logit_bias=endless):
                chunks.append(chunk)
        assert chunks and not isinstance(failed.value, openai.APIStatusError) and failed.value.message
        assert ask(client).choices


def test_who_does_not_wait_frees_the_place(server, special):
    endless = {str(special["<|im_end|>"]): -100}
    hasty = openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        ask(hasty, max_tokens=16_000, n=8, logit_bias=endless)
    deadline = time.monotonic() + 5
    running = lambda: [
        line for line in server.get("/metrics").splitlines() if "requests_running" in line and not line.startswith("#")
    ]
    assert running()
    while any(float(line.split()[-1]) for line in running()):
        assert time.monotonic() < deadline, running()
        time.sleep(0.05)
