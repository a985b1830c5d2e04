"""Logits of llama.cpp for the token ids that were recorded beside a checkpoint.

    python llama_cpp_logits.py MODEL.gguf DIR [--out FILE]

DIR holds `golden.safetensors` with `input_ids [1, S]` and `logits [1, S, V]` in f32 (see record.py).
Prints the largest difference relative to the largest recorded logit, the share of positions with
the same likeliest token and the mean KL divergence; with --out it writes a recording with
llama.cpp's logits instead, so that `frugal check` can compare Frugal with llama.cpp on one file.

llama-cpp-python has to be built without AMX on compilers that optimise the tile configuration away:
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" pip install
llama-cpp-python.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from llama_cpp import Llama
from safetensors.torch import load_file, save_file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--greedy", type=int, default=16)
    arguments = parser.parse_args()
    golden = load_file(arguments.folder / "golden.safetensors")
    ids = golden["input_ids"][0].tolist()
    expected = golden["logits"][0].float().numpy()
    llama = Llama(
        model_path=arguments.model, n_ctx=max(512, 2 * len(ids)), n_batch=512, n_threads=2,
        type_k=0, type_v=0,  # the cache in f32, as ours
        logits_all=True, verbose=False,
    )
    llama.eval(ids)
    logits = np.array(llama.scores[: len(ids)], dtype=np.float32)
    relative = np.abs(logits - expected).max() / np.abs(expected).max()
    same = (logits.argmax(-1) == expected.argmax(-1)).mean()

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(expected), log_softmax(logits)
    divergence = float((np.exp(p) * (p - q)).sum(-1).mean())
    print(json.dumps({
        "model": arguments.model, "relative_error": float(relative), "same_likeliest": float(same),
        "divergence": divergence,
    }))
    if arguments.out:
        llama.reset()
        llama.eval(ids)
        chosen = list(ids)
        for _ in range(len(ids)):
            following = int(np.argmax(llama.scores[llama.n_tokens - 1]))
            chosen.append(following)
            llama.eval([following])
        loss = -np.take_along_axis(q[:-1], np.array(ids[1:])[:, None], -1).mean()
        save_file({
            "input_ids": torch.tensor([ids]),
            "logits": torch.tensor(logits)[None].contiguous(),
            "loss": torch.tensor(np.float32(loss)),
            "greedy": torch.tensor([chosen]),
        }, arguments.out)


if __name__ == "__main__":
    main()
