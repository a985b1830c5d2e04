"""Training in Frugal and in transformers on PyTorch: the same model, batch and lengths.

    python train.py [--shape tiny-dense r1-tiny tiny-moe] [--modes eager compiled]

Both begin from the random weights that `frugal bench model` writes and train on random tokens with
AdamW, gradients clipped; PyTorch in bf16 autocast over f32 weights, with fused AdamW and
scaled-dot-product attention. `experts` is eager with transformers' grouped products of experts.
"""

import argparse
import tempfile
import time

import turns

UNIT = "tokens_per_second"


def peer(arguments):
    told = turns.Told()
    import torch
    from transformers import AutoModelForCausalLM

    folder, mode = arguments.peer
    torch.set_num_threads(arguments.threads)
    settings = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    if mode == "experts":
        settings["experts_implementation"] = "grouped_mm"
    model = AutoModelForCausalLM.from_pretrained(folder, **settings).train()
    run = torch.compile(model) if mode == "compiled" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), fused=True)
    shape = (arguments.sequences, arguments.length)

    def step():
        ids = torch.randint(0, model.config.vocab_size, shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=not arguments.f32):
            loss = run(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def repeat():
        start = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        seconds = time.perf_counter() - start
        return arguments.steps * arguments.sequences * arguments.length / seconds

    for _ in range(2):
        step()
    told.repeat(repeat)


def measure(arguments, shape):
    lengths = [
        "--sequences", str(arguments.sequences), "--length", str(arguments.length),
        "--steps", str(arguments.steps), *(["--f32"] if arguments.f32 else []),
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = turns.write_model(arguments.frugal, shape, place)
        threads = ["--threads", str(arguments.threads)]
        peers = turns.peers_of({
            mode: ([__file__, "--peer", folder, mode, *lengths, *threads], None)
            for mode in arguments.modes
        })
        flags = ["train", "--model", folder, *lengths, *turns.our_flags(arguments)]
        ours = turns.frugal(arguments.frugal, flags, UNIT)
        title = f"train {shape}, {arguments.sequences} x {arguments.length}"
        turns.compare(turns.title_of(arguments, title), UNIT, ours, peers, arguments.rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", nargs="+", default=["tiny-dense", "r1-tiny", "tiny-moe"])
    modes = ["eager", "experts", "compiled"]
    parser.add_argument("--modes", nargs="+", choices=modes, default=["eager", "compiled"])
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3, help="of a run")
    parser.add_argument("--f32", action="store_true", help="products in f32 on both sides")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    turns.common_flags(parser)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    for shape in arguments.shape:
        measure(arguments, shape)


if __name__ == "__main__":
    main()
