"""Steps of reinforcement learning in Frugal and in TRL: the same model, prompts and lengths.

    python grpo.py [--shape r1-tiny tiny-dense] [--prompts 16 --samples 8 --tokens 64]

A step draws a group of answers to each of some random prompts, rewards even token ids and makes one
update. No answer ends early on either side. Both begin from the random weights that `frugal bench
model` writes; TRL generates with transformers' cache, in bf16 autocast and, as a second peer, in
f32, which generates faster on some machines.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import turns

UNIT = "samples_per_second"


def tokenizer_of(size):
    """A word an id, so that prompts have the lengths they are meant to have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w1")


def even_share(completion_ids, **_):
    return [sum(i % 2 == 0 for i in ids) / max(1, len(ids)) for ids in completion_ids]


def peer(arguments):
    told = turns.Told()
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    folder, precision = arguments.peer
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    size = model.config.vocab_size
    draw = random.Random(1)

    def prompt():
        return " ".join(f"w{draw.randrange(2, size)}" for _ in range(arguments.prompt))

    rows = Dataset.from_list([{"prompt": prompt()} for _ in range(4096)])
    samples = arguments.prompts * arguments.samples

    class InTurns(TrainerCallback):
        """The trainer's loop is its own: from the second step on, each waits for its turn."""

        def __init__(self):
            self.steps = 0

        def on_step_begin(self, *_, **__):
            if self.steps == 1:
                told.say("ready")
            if self.steps > 0:
                told.wait()
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            if self.steps > 0:
                told.answer(samples / (time.perf_counter() - self.start))
            self.steps += 1

    settings = GRPOConfig(
        output_dir=str(Path(folder) / "out"), use_cpu=True, bf16=precision == "bf16",
        per_device_train_batch_size=samples, num_generations=arguments.samples,
        max_completion_length=arguments.tokens, temperature=1.0, top_k=0, top_p=1.0,
        generation_kwargs={"min_new_tokens": arguments.tokens}, beta=0.0, learning_rate=1e-5,
        loss_type="dr_grpo", scale_rewards="none", gradient_checkpointing=False,
        max_steps=100_000, save_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model, reward_funcs=even_share, args=settings, train_dataset=rows,
        processing_class=tokenizer_of(size), callbacks=[InTurns()],
    )
    trainer.train()


def measure(arguments, shape):
    lengths = [
        "--prompts", str(arguments.prompts), "--samples", str(arguments.samples),
        "--prompt", str(arguments.prompt), "--tokens", str(arguments.tokens),
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = turns.write_model(arguments.frugal, shape, place)
        threads = ["--threads", str(arguments.threads)]
        peers = turns.peers_of({
            f"trl {precision}": ([__file__, "--peer", folder, precision, *lengths, *threads], None)
            for precision in arguments.precisions
        })
        flags = ["grpo", "--model", folder, *lengths, *turns.our_flags(arguments)]
        ours = turns.frugal(arguments.frugal, flags, UNIT)
        title = f"grpo {shape}, {arguments.prompts} x {arguments.samples} of {arguments.tokens}"
        turns.compare(turns.title_of(arguments, title), UNIT, ours, peers, arguments.rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", nargs="+", default=["r1-tiny", "tiny-dense"])
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8, help="answers to each")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    precisions = ["bf16", "f32"]
    parser.add_argument("--precisions", nargs="+", choices=precisions, default=precisions)
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    turns.common_flags(parser)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    for shape in arguments.shape:
        measure(arguments, shape)


if __name__ == "__main__":
    main()
