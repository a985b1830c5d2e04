"""Frugal and llama.cpp on one GGUF file: a prompt, one stream, several streams.

    python llama.py MODEL.gguf [--work prefill decode] [--streams 1 16] [--build NAME=DIR ...]

A build is a folder that holds the package `llama_cpp`; without one the installed package is the
peer, and with several the ratio is to the fastest. llama.cpp is called below its samplers, on
random tokens, with its usual cache and batch: less work than generating.
"""

import argparse
import ctypes
import pathlib
import random
import time

import turns

UNIT = "tokens_per_second"


class Override(ctypes.Structure):
    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


def on_cpu(patterns):
    """What keeps tensors of these names in plain memory: llama.cpp's AMX memory takes the split
    `kv_b` of MLA, cannot multiply it there, and ends."""
    import llama_cpp

    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    plain = ctypes.CDLL(str(folder / "libggml-base.so")).ggml_backend_cpu_buffer_type
    plain.restype = ctypes.c_void_p
    overrides = [Override(pattern.encode(), plain()) for pattern in patterns]
    return (Override * (len(patterns) + 1))(*overrides, Override(None, None))


def peer(arguments):
    told = turns.Told()
    import llama_cpp as c

    work, streams, prompt, tokens = arguments.peer
    streams, prompt, tokens = int(streams), int(prompt), int(tokens)
    quiet = c.llama_log_callback(lambda *_: None)
    c.llama_log_set(quiet, None)
    loading = c.llama_model_default_params()
    overrides = on_cpu(arguments.on_cpu)
    loading.tensor_buft_overrides = ctypes.addressof(overrides)
    model = c.llama_model_load_from_file(arguments.model.encode(), loading)
    settings = c.llama_context_default_params()
    settings.n_ctx = streams * (prompt + tokens + 256)
    settings.n_seq_max = streams
    settings.n_batch = max(512, streams * prompt)
    settings.n_threads = settings.n_threads_batch = arguments.threads
    context = c.llama_init_from_model(model, settings)
    vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    batch = c.llama_batch_init(settings.n_batch, 0, streams)
    draw = random.Random(1)

    def run(places):
        batch.n_tokens = len(places)
        for i, (stream, position, is_last) in enumerate(places):
            batch.token[i] = draw.randrange(vocabulary)
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = stream
            batch.logits[i] = is_last
        if c.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode refused")
        c.llama_synchronize(context)

    def repeat():
        start = time.perf_counter()
        c.llama_memory_clear(c.llama_get_memory(context), True)
        run([(s, p, p == prompt - 1) for s in range(streams) for p in range(prompt)])
        if work == "prefill":
            return streams * prompt / (time.perf_counter() - start)
        start = time.perf_counter()
        for step in range(tokens):
            run([(s, prompt + step, True) for s in range(streams)])
        return streams * tokens / (time.perf_counter() - start)

    repeat()
    told.repeat(repeat)


def measure(arguments, work, streams):
    builds = dict(build.split("=", 1) for build in arguments.build) or {"llama.cpp": None}
    is_prefill = work == "prefill"
    prompt, tokens = (arguments.prefill, 1) if is_prefill else (arguments.prompt, arguments.tokens)
    lengths = ["--peer", work, str(streams), str(prompt), str(tokens)]
    command = [__file__, arguments.model, *lengths, "--threads", str(arguments.threads)]
    command += ["--on-cpu", *arguments.on_cpu]
    peers = turns.peers_of({
        name: (command, {"PYTHONPATH": folder} if folder else None)
        for name, folder in builds.items()
    })
    flags = ["--tokens", str(prompt if is_prefill else tokens)]
    if not is_prefill:
        flags += ["--prompt", str(prompt), "--streams", str(streams)]
    flags += ["--model", arguments.model, *turns.our_flags(arguments)]
    ours = turns.frugal(arguments.frugal, [work, *flags], UNIT)
    name = arguments.model.rsplit("/", 1)[-1]
    what = f"{work} of {prompt}" if is_prefill else f"{work} of {tokens} x {streams}"
    title = turns.title_of(arguments, f"{what}, {name}")
    turns.compare(title, UNIT, ours, peers, arguments.rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    works = ["prefill", "decode"]
    parser.add_argument("--work", nargs="+", choices=works, default=works)
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the timed prompt")
    parser.add_argument("--prompt", type=int, default=16, help="tokens before the timed ones")
    parser.add_argument("--tokens", type=int, default=64, help="timed tokens of each stream")
    parser.add_argument("--build", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument(
        "--on-cpu", nargs="*", default=["attn_[kv]_b"], metavar="REGEX",
        help="tensors that llama.cpp keeps out of its AMX memory",
    )
    parser.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    turns.common_flags(parser)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    for work in arguments.work:
        for streams in arguments.streams if work == "decode" else [1]:
            measure(arguments, work, streams)


if __name__ == "__main__":
    main()
