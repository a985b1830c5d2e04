"""Writes the models that the page is tested with: `tiny`, which thinks some words and answers some, and
`wordy`, the same one without the habit of coming to an end, for tests that do something meanwhile."""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "conformance" / "api"))

import make_model

folder = pathlib.Path(sys.argv[1])
make_model.make(folder / "tiny")
usual = make_model.prior
make_model.prior = lambda token: -9.0 if token in ("<|im_end|>", "</think>", "<tool_call>") else usual(token)
make_model.make(folder / "wordy")
