"""Forms of answers by the openai package: `parse` with pydantic, JSON objects, and vLLM's forms."""

import enum
import json
import re
from typing import Literal, Optional, Union

import openai
import pydantic
import pytest

ASKED = [{"role": "user", "content": "Describe it as JSON."}]
QUIET = {"thinking": {"type": "disabled"}}
MORE = {"model": "tiny", "messages": ASKED, "max_tokens": 1500}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(pydantic.BaseModel):
    colour: Colour
    count: int = pydantic.Field(ge=1, le=9)


class Flat(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    is_new: bool
    kind: Literal["a", "b"]


class Deep(pydantic.BaseModel):
    parts: list[Part] = pydantic.Field(min_length=1, max_length=3)
    whole: Part
    note: Optional[Literal["x"]]
    either: Union[bool, Colour]


class Tree(pydantic.BaseModel):
    leaf: bool
    below: Optional["Tree"]


@pytest.mark.parametrize("form", [Flat, Deep, Tree])
@pytest.mark.parametrize("body", [{}, QUIET], ids=["thinking", "quiet"])
def test_parse(client, form, body):
    done = 0
    for seed in range(4):
        answer = client.chat.completions.parse(**MORE, response_format=form, seed=seed, extra_body=body)
        message = answer.choices[0].message
        if answer.choices[0].model_extra.get("finish_details", {}).get("ended_in_thought"):
            continue
        assert isinstance(message.parsed, form) and message.refusal is None
        done += 1
    assert done


@pytest.mark.parametrize("form", [Flat, Deep])
def test_streamed_parse(client, form):
    with client.chat.completions.stream(**MORE, response_format=form, seed=1, extra_body=QUIET) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    whole = client.chat.completions.parse(**MORE, response_format=form, seed=1, extra_body=QUIET)
    assert final.choices[0].message.parsed == whole.choices[0].message.parsed


def test_an_unfinished_form_raises(client):
    with pytest.raises(openai.LengthFinishReasonError):
        more = {**MORE, "max_tokens": 3}
        client.chat.completions.parse(**more, response_format=Flat, extra_body=QUIET)


def test_json_objects(client):
    form = {"type": "json_object"}
    for seed in range(6):
        answer = client.chat.completions.create(**MORE, response_format=form, seed=seed, extra_body=QUIET)
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"guided_regex": "[0-9]{3}-[a-f]{2}"}, "[0-9]{3}-[a-f]{2}"),
        ({"guided_json": {"enum": [1, 2]}}, "[12]"),
        ({"guided_grammar": 'start: "a" "b"'}, "ab"),
        ({"structured_outputs": {"choice": ["left", "right"]}}, "left|right"),
    ],
)
def test_other_forms(client, body, form):
    for thinking in ({}, QUIET):
        for seed in range(3):
            answer = client.chat.completions.create(**MORE, seed=seed, extra_body={**body, **thinking})
            choice = answer.choices[0]
            if not choice.model_extra.get("finish_details", {}).get("ended_in_thought"):
                assert re.fullmatch(form, choice.message.content.strip())


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}, "invalid_schema", None),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, None, "response_format.json_schema.name"),
        ({"type": "xml"}, None, "response_format.type"),
    ],
)
def test_refused(client, form, code, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**MORE, response_format=form)
    assert refused.value.code == code and (param is None or refused.value.param == param)
