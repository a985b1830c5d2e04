"""Requests made of our own description by schemathesis, good ones and bad ones: nothing ends in a 5xx,
with a status that the description lacks, or with a body of another form than described."""

import json

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="run by `run all`")
import hypothesis
import requests
from schemathesis.checks import CHECKS, load_all_checks

from serving import Server

EXAMPLES = 40
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


@pytest.fixture
def description(small):
    read = json.loads(small.get("/openapi.json"))
    if not read["paths"]:
        pytest.skip("the description is empty")
    return schemathesis.openapi.from_dict(read)


schema = schemathesis.pytest.from_fixture("description")
load_all_checks()
CHOSEN = CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_as_described(case, small):
    # Names of models are made up all the same; half of them are to be right.
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and len(case.body["model"]) % 2 == 0:
        case.body["model"] = "tiny"
    answer = case.call(base_url=small.url, timeout=60)
    case.validate_response(answer, checks=CHOSEN)
    if answer.status_code >= 400:
        error = json.loads(answer.content)["error"]
        assert error["message"] if isinstance(error, dict) else error


def test_the_server_goes_on(small):
    assert requests.get(small.url + "/health", timeout=10).ok
