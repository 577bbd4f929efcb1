"""What a large GPU makes of tiltflow: one command, at most nine minutes, every number recorded.

    python benchmarks/gpu.py [--data FOLDER] [--minutes 9] [--parts A,B] [--out FOLDER]
    python benchmarks/gpu.py --tiny

Parts, in this order: `ceilings`, `gradients`, `transitions`, `learning` (`gpu_speed.py`), then
`fashion` and `cifar` (`gpu_images.py`), which share the time that is left. FOLDER holds
`fashion_mnist.npz` and `cifar10_jpeg.npz`; a set that is not there is left out, in a line. The
images of CIFAR-10 are decoded from JPEG, which has changed the pixels: their bits/dim are no
published ones.

What is measured is recorded at once, in `FOLDER/gpu-DATE-DEVICE.json` with date and device, or
where `--json` says: a run that is killed, or whose time is over, keeps what was done. Every part
that has ended is in `done`; why another has not, in `left_out`. One that fails ends no other.

`--tiny` runs the same code with small numbers, in about two minutes on a CPU: a look at whether
all works. It records nothing unless `--out` or `--json` is given.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
import traceback
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import gpu_images
import gpu_speed
import jax

import tiltflow
from tiltflow.errors import InputError
from tiltflow.runs.atomic import write_json

HERE = Path(__file__).parent
DATA = HERE.parent / "shared" / "data"
LAST = 10  # seconds of the whole, in which nothing is begun
SETS = {"fashion": "fashion_mnist.npz", "cifar": "cifar10_jpeg.npz"}
SPEED = {
    "ceilings": gpu_speed.ceilings,
    "gradients": gpu_speed.gradients,
    "transitions": gpu_speed.transitions,
    "learning": gpu_speed.learning,
}
PARTS = (*SPEED, *SETS)


class Book:
    """What was measured so far: printed and written as soon as it is known."""

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        """Begun by what is known `about` the run."""
        self.path, self.began = path, time.monotonic()
        self.found: dict[str, Any] = {**about, "done": [], "left_out": {}, "failed": []}
        self._write()

    def add(self, part: str, name: str, value: Any) -> None:
        """A number, or a block of them, of a part."""
        self.found.setdefault(part, {})[name] = value
        print(f"{part} {name}: {json.dumps(_short(value))}", flush=True)
        self._write()

    def close(self, part: str, why_not: str = "") -> None:
        """The part has ended, or was left out for that reason."""
        if why_not:
            self.found["left_out"][part] = why_not
            print(f"{part} is left out: {why_not}", flush=True)
        else:
            self.found["done"].append(part)
        self._write()

    def _write(self) -> None:
        self.found["seconds"] = round(time.monotonic() - self.began, 1)
        if self.path:
            write_json(self.path, self.found)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the parts; returns what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of both sets")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, help="the folder of records (benchmarks/results)")
    parser.add_argument("--json", type=Path, help="the record itself, in place of --out")
    parser.add_argument("--tiny", action="store_true", help="small numbers: does all work?")
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    if wrong := set(parts) - set(PARTS):
        parser.error(f"part {min(wrong)!r}; expected some of {', '.join(PARTS)}")
    book = Book(path_of(given), about(given))
    end = book.began + 60 * given.minutes
    over = threading.Timer(60 * given.minutes, time_is_over, (book,))
    over.daemon = True  # one long compilation cannot be asked to stop
    over.start()
    try:
        for part in (part for part in PARTS if part in parts):
            run_part(part, parts, given, book, end)
    finally:
        over.cancel()
    print(f"done in {book.found['seconds']:.0f} s: {', '.join(book.found['done'])}", flush=True)
    return book.found


def run_part(
    part: str, parts: list[str], given: argparse.Namespace, book: Book, end: float
) -> None:
    """One part, if there is time for it and what it needs is there."""
    left = end - LAST - time.monotonic()
    if left <= 0:
        book.close(part, "the time was over")
        return
    keep = partial(book.add, part)
    began = time.monotonic()
    try:
        if part in SPEED:
            SPEED[part](keep, tiny=given.tiny, ceilings=book.found.get("ceilings", {}))
        else:
            path = given.data / SETS[part]
            if not path.exists():
                raise InputError(f"{path} is not there: give its folder as --data")
            share = left / sum(name in parts for name in PARTS[PARTS.index(part) :])
            gpu_images.measure(keep, path, until=time.monotonic() + share, tiny=given.tiny)
        keep("seconds", round(time.monotonic() - began, 1))
    except InputError as error:
        book.close(part, str(error))
    except Exception as error:  # the next part may work, and the device is lent for minutes
        traceback.print_exc()
        book.close(part, f"{type(error).__name__}: {error}"[:500])
        book.found["failed"].append(part)
    else:
        book.close(part)


def path_of(given: argparse.Namespace) -> Path | None:
    """Where the record goes; None: nowhere."""
    if given.json:
        return given.json
    if given.tiny and not given.out:
        return None
    folder = given.out or HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    kind = re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")
    return folder / f"gpu-{datetime.now():%Y-%m-%d-%H%M}-{kind}.json"


def about(given: argparse.Namespace) -> dict[str, Any]:
    """Date, device, and versions."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    )
    device = jax.devices()[0]
    return {
        "date": datetime.now().isoformat(timespec="seconds"),
        "device": f"{device.device_kind} ({device.platform})",
        "devices": jax.device_count(),
        "host": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"tiltflow": tiltflow.__version__, "jax": jax.__version__},
        "commit": commit.stdout.strip() or "unknown",
        "minutes": given.minutes,
        "tiny": given.tiny,
    }


def time_is_over(book: Book) -> None:
    """End the process; what is done is recorded."""
    print(f"the time is over: {', '.join(book.found['done'])} and a part of the next", flush=True)
    os._exit(0)


def _short(value: Any) -> Any:
    """To print: four digits, no long lists."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value[:8]] + ["..."] * (len(value) > 8)
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(1 if main()["failed"] else 0)
