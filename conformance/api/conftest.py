"""What all suites share: one server for most of them, and clients of it."""

import os
import pathlib

import anthropic
import openai
import pytest

import make_model
from serving import Server

SHARED = pathlib.Path(__file__).parents[2] / "../shared/data"


def pytest_configure(config):
    # Suites of others have tests that are coroutines, and clients that outlive one of them.
    if config.pluginmanager.hasplugin("asyncio"):
        config.option.asyncio_mode = "auto"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session", autouse=True)
def tiny_model(tmp_path_factory):
    if "FRUGAL_MODEL" not in os.environ:
        folder = tmp_path_factory.mktemp("model")
        make_model.make(folder)
        os.environ["FRUGAL_MODEL"] = str(folder)


@pytest.fixture(scope="session")
def server(tiny_model):
    with Server("--alias", "gpt-6-astra=tiny") as server:
        yield server


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def special(server):
    """The ids of tokens that tests speak of."""
    marks = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>")
    tokens = make_model.vocabulary()[0] + make_model.CONTROL + make_model.MARKUP
    return {mark: tokens.index(mark) for mark in marks}


@pytest.fixture(scope="session")
def shared():
    """Data that is not part of the repository; tests of it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def seed(client):
    """One by which the model thinks, answers in letters that can be printed, and ends by itself."""
    for seed in range(200):
        hello = [{"role": "user", "content": "hello"}]
        (choice,) = client.chat.completions.create(model="tiny", messages=hello, seed=seed).choices
        text, thought = choice.message.content, choice.message.model_extra.get("reasoning_content", "")
        if len(text) > 12 and len(thought) > 6 and (text + thought).isascii() and text.isprintable():
            return seed
    raise AssertionError("the model lacks such a seed")
