"""Records what transformers computes with a checkpoint, for `frugal check DIR`.

    python record.py DIR

Writes `golden.safetensors` into DIR: `input_ids [1, 64]`, `logits`, `loss`, and `greedy [1, 128]` (64
tokens of prompt, 64 chosen greedily), in f32, and `logits_bf16` for comparison. FP8 weights are
dequantised first, since transformers multiplies them on some GPUs only. Prints how long each part
took and the peak memory.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

BLOCK = 128
PROMPT = 64


def weights(folder):
    """All tensors of a folder in f32."""
    tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():
                tensors[name] = opened.get_tensor(name)
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        plain = tensor.float()
        scales = tensors.get(name + "_scale_inv")
        if scales is not None:
            rows, cols = tensor.shape
            factors = scales.repeat_interleave(BLOCK, 0)[:rows].repeat_interleave(BLOCK, 1)[:, :cols]
            plain = plain * factors
        out[name] = plain
    return out


def model_of(folder):
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._attn_implementation = "eager"
    start = time.time()
    if json.loads((folder / "config.json").read_text()).get("quantization_config"):
        # Through a folder of plain weights, so that transformers does its own renaming.
        plain = folder / "dequantised"
        plain.mkdir(exist_ok=True)
        save_file(weights(folder), plain / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(plain)
        model = AutoModelForCausalLM.from_pretrained(
            plain, dtype=torch.float32, attn_implementation="eager"
        )
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
    print(f"loaded in {time.time() - start:.1f} s")
    return model.eval()


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = model_of(arguments.folder)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (1, PROMPT), generator=generator)
    out = model(ids, labels=ids)
    start = time.time()
    cache, chosen = None, ids
    next_ids = ids
    for _ in range(PROMPT):
        step = model(next_ids, past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        next_ids = step.logits[:, -1:].argmax(-1)
        chosen = torch.cat([chosen, next_ids], dim=1)
    print(f"{PROMPT / (time.time() - start):.2f} greedy tokens/s in f32")
    record = {
        "input_ids": ids,
        "logits": out.logits.float().contiguous(),
        "loss": out.loss.float().reshape(()),
        "greedy": chosen.contiguous(),
    }
    model = model.to(torch.bfloat16)
    record["logits_bf16"] = model(ids).logits.float().contiguous()
    difference = (record["logits_bf16"] - record["logits"]).abs().max() / record["logits"].abs().max()
    print(f"bf16 against f32, relative to the largest logit: {difference:.2e}")
    save_file(record, arguments.folder / "golden.safetensors")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
