"""Training speed of transformers on PyTorch, for the comparison in LOG.md.

Reads a config.json (as Frugal writes it), builds that model with random weights, and trains it
on random tokens with AdamW in bf16 autocast on two threads, eager. Prints one JSON line a
repetition: tokens per second over `--steps` steps, after `--warmup` steps.

    python train_peer.py --config config.json --sequences 20 --length 140
"""

import argparse
import json
import resource
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--length", type=int, default=140)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(arguments.config)
    config._attn_implementation = "sdpa"
    model = AutoModelForCausalLM.from_config(config).float().train()
    run = torch.compile(model) if arguments.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    shape = (arguments.sequences, arguments.length)

    def step():
        ids = torch.randint(0, config.vocab_size, shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = run(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(arguments.warmup):
        step()
    start = time.perf_counter()
    for _ in range(arguments.steps):
        step()
    seconds = time.perf_counter() - start
    tokens = arguments.steps * arguments.sequences * arguments.length
    print(
        json.dumps(
            {
                "peer": f"torch {torch.__version__}",
                "precision": arguments.precision,
                "compile": arguments.compile,
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens_per_second": tokens / seconds,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
