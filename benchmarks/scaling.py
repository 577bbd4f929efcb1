"""Learning and sampling on one and two devices, and in one and two processes.

    python benchmarks/scaling.py [--json FILE] [--rounds N] [--particles N]

A device is one core and one thread. Four set-ups run in turn, in a new order in each round, and
are compared within rounds (`timing.py`): one device; two devices of one process; one process; two
processes, each on a core of its own. `efficiency` is the rate of two over twice that of one. It
asks for cores that nobody else uses; `work` does not: the processor time of one over that of two
together, which counts what a collective does, and waiting only where it spins. `apart` is the
largest relative difference between the numbers that two make and those of one.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from scaling_worker import ITERATIONS, LEAPFROGS, TRANSITIONS

WORKER = Path(__file__).with_name("scaling_worker.py")
WORK = ("learning", "sampling")
KINDS = ("devices", "processes")
FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count={}"


class SetUp:
    """Some workers that measure together; each pipe is read and written a line at a time."""

    def __init__(self, kind: str, number: int, particles: int) -> None:
        cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:number]]
        each = [",".join(cores)] if kind == "devices" else cores
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        flags = FLAGS.format(number if kind == "devices" else 1)
        self.workers = [
            subprocess.Popen(
                [sys.executable, WORKER, "--cores", own, "--particles", str(particles),
                 "--processes", str(len(each)), "--process-id", str(which), "--port", str(port)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            )
            for which, own in enumerate(each)
        ]  # fmt: skip
        self.numbers = json.loads(self._answers()[0])

    def seconds(self, work: str) -> tuple[float, float]:
        """Of one measurement, as the slowest has it; and of all processors together."""
        for worker in self.workers:
            worker.stdin.write(f"{work}\n")
            worker.stdin.flush()
        times = np.array([list(map(float, words.split())) for words in self._answers()])
        return times[:, 0].max(), times[:, 1].sum()

    def end(self) -> None:
        for worker in self.workers:
            worker.stdin.close()
        for worker in self.workers:
            worker.wait()

    def _answers(self) -> list[str]:
        answers = [worker.stdout.readline() for worker in self.workers]
        if not all(answers):
            sys.exit("a worker has ended: see its words")
        return answers


def apart(numbers: dict, expected: dict) -> float:
    """The largest relative difference."""
    found, wanted = (np.concatenate([n[work] for work in WORK]) for n in (numbers, expected))
    return float(np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 1e-6)))


def measured(rounds: int, particles: int) -> dict:
    """The report."""
    setups = {(kind, n): SetUp(kind, n, particles) for kind in KINDS for n in (1, 2)}
    seconds = {(name, work): np.zeros((rounds, 2)) for name in setups for work in WORK}
    chance = np.random.default_rng(0)
    for turn in range(rounds):
        for index in chance.permutation(len(seconds)):
            name, work = list(seconds)[index]
            seconds[name, work][turn] = setups[name].seconds(work)
    gradients = particles * ITERATIONS * TRANSITIONS * LEAPFROGS
    report: dict = {"particles": particles, "rounds": rounds, "leapfrogs": LEAPFROGS}
    for kind in KINDS:
        one, two = (kind, 1), (kind, 2)
        report[kind] = {
            str(name[1]): {
                "gradients_per_second": gradients
                / float(np.median(seconds[name, "sampling"][:, 0])),
                "learning_gradients_per_second": gradients
                / float(np.median(seconds[name, "learning"][:, 0])),
            }
            for name in (one, two)
        }
        shares = {w: np.median(seconds[one, w] / seconds[two, w], axis=0) for w in WORK}
        report[kind]["efficiency"] = {w: float(share[0]) / 2 for w, share in shares.items()}
        report[kind]["work"] = {w: float(share[1]) for w, share in shares.items()}
        report[kind]["apart"] = apart(setups[two].numbers, setups["devices", 1].numbers)
    for setup in setups.values():
        setup.end()
    return report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--particles", type=int, default=1024)
    given = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("one core; expected two or more")
    report = measured(given.rounds, given.particles)
    for kind in KINDS:
        for n in ("1", "2"):
            rates = report[kind][n]
            print(
                f"{n} {kind:<10} sampling {rates['gradients_per_second']:>9,.0f} gradients/s, "
                f"learning {rates['learning_gradients_per_second']:>9,.0f}"
            )
        for share in ("efficiency", "work"):
            words = (f"{work} {report[kind][share][work]:.2f}" for work in WORK)
            print(f"  {share:<10} {', '.join(words)}")
        print(f"  numbers apart by {report[kind]['apart']:.1e}")
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
