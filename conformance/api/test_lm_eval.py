"""lm-evaluation-harness against the server: its log-likelihoods are those that transformers computes.

The server forms products of numbers rounded to bf16, weights being bf16 already; transformers computes
in f32 here. What that may make of a sum of log-probabilities is bounded by `PER_TOKEN` for each token.
"""

import pathlib

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="run by `run all`")
pytest.importorskip("torch", reason="torch is absent")
pytest.importorskip("transformers", reason="transformers is absent")

from serving import model_folder

HERE = pathlib.Path(__file__).parent / "lm_eval_task"
# A rounding to bf16 is of up to one part in 512. Some ten of them, mostly independent, stand in a row
# between an embedding and a logit, and logits here are of size up to 8: 8 / 512 * sqrt(10) is 0.05.
PER_TOKEN = 0.05


def evaluated(kind, **arguments):
    import yaml

    task = yaml.safe_load((HERE / "babble.yaml").read_text())
    task["dataset_kwargs"] = {"data_files": {"validation": str(HERE / "items.jsonl")}}
    done = lm_eval.simple_evaluate(
        model=kind, model_args=arguments, tasks=[task], log_samples=True, bootstrap_iters=0, batch_size=4
    )
    samples = sorted(done["samples"]["babble"], key=lambda sample: sample["doc_id"])
    return done["results"]["babble"], samples


@pytest.fixture(scope="module")
def reference(tiny_model):
    return evaluated("hf", pretrained=str(model_folder()), dtype="float32", device="cpu")


@pytest.mark.parametrize("tokenizer", ["remote", "huggingface"])
def test_log_likelihoods(server, reference, tokenizer):
    more = {"tokenizer": str(model_folder())} if tokenizer == "huggingface" else {}
    own, samples = evaluated(
        "local-completions", model="tiny", base_url=server.v1 + "/completions", tokenizer_backend=tokenizer,
        max_length=2048, **more,
    )
    expected, references = reference
    assert len(samples) == len(references) == 20
    worst, n = 0.0, 0
    for sample, other in zip(samples, references):
        assert sample["arguments"] == other["arguments"]
        for (question, answer), [(ours, _)], [(theirs, _)] in zip(sample["arguments"], sample["resps"], other["resps"]):
            tokens = len(server.ids(question + answer)) - len(server.ids(question))
            worst, n = max(worst, abs(float(ours) - float(theirs)) / tokens), n + 1
    print(f"\n{n} log-likelihoods by the {tokenizer} tokenizer: {worst:.4f} a token apart at most")
    assert n >= 40 and worst < PER_TOKEN
    assert abs(own["acc,none"] - expected["acc,none"]) <= 0.05


def test_greedy_texts(server):
    """The other kind of request that the harness makes."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    model = LocalCompletionsAPI(model="tiny", base_url=server.v1 + "/completions", tokenizer_backend="remote")
    ask = Instance("generate_until", {}, ("once", {"until": ["]"], "max_gen_toks": 20, "temperature": 0}), 0)
    first, second = model.generate_until([ask, ask])
    assert first == second and "]" not in first
