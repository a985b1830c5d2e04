"""Writes the models that the page is tested with: `tiny`, which thinks some words and answers some, and
`wordy`, the same one without the habit of coming to an end, for tests that do something meanwhile."""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "conformance" / "api"))

import make_model

folder = pathlib.Path(sys.argv[1])
usual = make_model.prior


def with_ends(logit):
    """The prior with another likelihood of an end, of thoughts and of answers."""
    make_model.prior = lambda token: logit if token in ("<|im_end|>", "</think>") else -9.0 if token == "<tool_call>" else usual(token)


# Rarely at once, mostly within a hundred tokens.
with_ends(2.0)
make_model.make(folder / "tiny")
with_ends(-9.0)
make_model.make(folder / "wordy")
