"""Requests made of our own description by schemathesis, good ones and bad ones: nothing ends in a 5xx,
with a status that the description lacks, or with a body of another form than described; and what is not
as described is refused."""

import json
import pathlib

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="run by `run all`")
import hypothesis
import requests
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis import GenerationMode

from serving import Server

EXAMPLES = 40
# Of routes that are others by another name.
FEW = 8
BASES = ("/beta/v1", "/beta", "/anthropic/v1", "")
# What schemathesis invents may ask for all there is: there is little, so that no request takes long.
SMALL = """
[limits]
n = 4
verify_samples = 4
[models]
context = 512
"""


@pytest.fixture(scope="session")
def small():
    with Server(config=SMALL) as server:
        yield server


DESCRIPTION = json.loads((pathlib.Path(__file__).parents[2] / "crates/frugal-serve/src/openapi.json").read_text())
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
load_all_checks()
ALWAYS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "negative_data_rejection"]
OF_JSON = ["response_schema_conformance"]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


def test_the_description_is_served(small):
    assert json.loads(small.get("/openapi.json")) == DESCRIPTION
    if not OPERATIONS:
        pytest.skip("the description is empty")


def examples(path):
    mains = {"/v1" + path.removeprefix(base) for base in BASES if path.startswith(base)}
    is_other_name = not path.startswith("/v1/") and mains & set(DESCRIPTION["paths"])
    return FEW if is_other_name else EXAMPLES


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_as_described(small, operation, mode):
    @hypothesis.settings(
        max_examples=examples(operation.path), derandomize=True, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        # Names of models are made up like all else; half of them are to be right.
        name = case.body.get("model") if isinstance(case.body, dict) else None
        if isinstance(name, str) and name and len(name) % 2 == 0:
            case.body["model"] = "tiny"
        answer = case.call(base_url=small.url, timeout=60)
        is_stream = "text/event-stream" in str(answer.headers.get("content-type"))
        case.validate_response(answer, checks=CHECKS.get_by_names(ALWAYS if is_stream else ALWAYS + OF_JSON))
        if is_stream:
            # What stands in events is described in words; it is held against the official schemas elsewhere.
            events = [line.removeprefix("data:") for line in answer.text.splitlines() if line.startswith("data:")]
            assert all(event.strip() == "[DONE]" or json.loads(event) for event in events)
        if answer.status_code >= 400:
            error = json.loads(answer.content)["error"]
            assert error["message"] if isinstance(error, dict) else error

    try:
        check()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip(f"there is nothing {mode.value} to ask of it")


def test_the_server_goes_on(small):
    assert requests.get(small.url + "/health", timeout=10).ok
