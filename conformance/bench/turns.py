"""What the scripts here share: Frugal and its peers measured in turns, medians, ratios.

A peer is a process that is ready and idle until it is told to repeat its work, so that all runs of
one table see the same machine; Frugal is a process a run. Every figure is a rate.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PAUSE = 0.5  # seconds for the threads of whoever ran before to fall asleep


class Told:
    """The peer's side of the talk, on what was its standard input and output. Made before anything
    of the peer's, which may print."""

    def __init__(self):
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print is no answer

    def say(self, answer):
        print(json.dumps(answer), file=self.out, flush=True)

    def wait(self):
        """Until the next turn; ends the process where there is none."""
        if not sys.stdin.readline():
            os._exit(0)

    def answer(self, rate):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.say({"rate": rate, "peak_memory_bytes": peak})

    def repeat(self, work):
        """`work` gives a rate; it is warm already."""
        self.say("ready")
        while True:
            self.wait()
            self.answer(work())


class Peer:
    """The asking side."""

    def __init__(self, command, environment=None):
        self.complaints = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints,
            text=True, env={**os.environ, **(environment or {})},
        )
        self.hear()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            self.complaints.seek(0)
            raise RuntimeError(f"the peer ended: {self.complaints.read()[-2000:]}")
        return json.loads(line)

    def __call__(self):
        print(file=self.process.stdin, flush=True)
        return self.hear()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def peers_of(commands):
    """Those that can begin; the others are named."""
    peers = {}
    for name, (command, environment) in commands.items():
        try:
            peers[name] = Peer([sys.executable, *command], environment)
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return peers


def frugal(program, arguments, unit):
    """Frugal as a run of its own."""

    def run():
        command = [program, "bench", *arguments, "--repetitions", "1", "--json"]
        told = subprocess.run(command, capture_output=True, text=True)
        if told.returncode != 0:
            raise SystemExit(told.stderr)
        row = json.loads(told.stdout.splitlines()[-1])
        return {
            "rate": row[unit],
            "share_of_roofline": row["share_of_roofline"],
            "peak_memory_bytes": row["peak_memory_bytes"],
        }

    return run


def write_model(program, shape, place):
    """The random weights of a shape, as a folder that others can load."""
    folder = os.path.join(place, shape)
    command = [program, "bench", "model", "--shape", shape, "--format", "f32", folder]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder


def compare(title, unit, ours, peers, rounds):
    """Runs all in turns and prints one JSON line; the ratio is to the fastest peer."""
    seen = {name: [] for name in ["frugal", *peers]}
    for _ in range(rounds):
        for name, run in {"frugal": ours, **peers}.items():
            time.sleep(PAUSE)
            seen[name].append(run())
    for peer in peers.values():
        peer.end()
    row = {"title": title, "unit": unit, "rounds": rounds}
    for name, runs in seen.items():
        rates = sorted(run["rate"] for run in runs)
        row[name] = {
            "median": statistics.median(rates), "min": rates[0], "max": rates[-1],
            "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
        }
    shares = [run["share_of_roofline"] for run in seen["frugal"]]
    row["frugal"]["share_of_roofline"] = statistics.median(shares)
    summary = [f"{name} {row[name]['median']:.2f}" for name in seen]
    summary.append(f"{100 * statistics.median(shares):.1f} % of the roofline")
    if peers:
        best = max(peers, key=lambda name: row[name]["median"])
        row["best_peer"] = best
        row["ratio"] = row["frugal"]["median"] / row[best]["median"]
        row["memory_ratio"] = (
            row["frugal"]["peak_memory_bytes"] / row[best]["peak_memory_bytes"]
        )
        summary.append(f"{row['ratio']:.2f} of {best} in {row['memory_ratio']:.2f} of its memory")
    print(json.dumps(row), flush=True)
    print(f"{title}, {unit}: {', '.join(summary)}", file=sys.stderr, flush=True)


def common_flags(parser):
    parser.add_argument("--frugal", default="frugal", help="the program")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", help="of Frugal; see README.md for how to hold peers to it")
    parser.add_argument("--ours", nargs="+", default=[], help="further words for frugal bench")


def our_flags(arguments):
    isa = ["--isa", arguments.isa] if arguments.isa else []
    return ["--threads", str(arguments.threads), *isa, *arguments.ours]


def title_of(arguments, title):
    return f"{title} {arguments.isa}" if arguments.isa else title
