"""Files damaged at random, for every reader: they load, or are refused as bad input.

As a program, `python mutations.py READER COUNT SEED`, it tries COUNT files within a bound of
memory, and prints a line of JSON: how many loaded, the slowest in seconds, the memory it took.
"""

import json
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from bad_files import (
    PICTURES,
    REALS,
    good_model,
    gzipped,
    idx,
    npy,
    npz,
    parquet,
    png,
    table,
    write_run,
    zstandard,
)  # fmt: skip

from tiltflow.data import load
from tiltflow.data.inspect import inspect
from tiltflow.data.sources import read
from tiltflow.errors import InputError
from tiltflow.model.loading import load_model
from tiltflow.runs import reading

SECONDS = 20.0
"""A file that takes longer has hung."""
MEMORY = 2**30
"""Bytes beyond what the program has when it starts; more is refused by the system."""
SMALL = PICTURES[:, :4, :4, 0]


def _jpegs():
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(PICTURES[0]).save(stream, "JPEG")
    one = np.frombuffer(stream.getvalue(), np.uint8)
    return npz(jpeg_train=np.tile(one, 24), offset_train=len(one) * np.arange(25))


def _file(name):
    def both(path):
        inspect(read(path / name))
        load(path / name)

    return both


def _folder(path):
    return load(path / "p")


def _model(path):
    return load_model(path / "run" / "model")


# reader: the file to damage, a whole one, and what reads it in the folder that it lies in
READERS = {
    "npy": ("x.npy", lambda: npy(REALS), _file("x.npy")),
    "npz": ("x.npz", lambda: npz(x_train=REALS, y_train=np.arange(40), x_test=REALS),
            _file("x.npz")),
    "jpegs": ("x.npz", _jpegs, _file("x.npz")),
    "csv": ("x.csv", lambda: table(REALS, "a,b,c"), _file("x.csv")),
    "tsv": ("x.tsv", lambda: table(REALS, "a\tb\tc", "\t"), _file("x.tsv")),
    "csv.gz": ("x.csv.gz", lambda: gzipped(table(REALS, "a,b,c")), _file("x.csv.gz")),
    "csv.zst": ("x.csv.zst", lambda: zstandard(table(REALS, "a,b,c")), _file("x.csv.zst")),
    "parquet": ("x.parquet", lambda: parquet(a=REALS[:, 0], b=np.arange(40)), _file("x.parquet")),
    "idx": ("x.idx", lambda: idx(SMALL), _file("x.idx")),
    "idx.gz": ("x.idx.gz", lambda: gzipped(idx(SMALL)), _file("x.idx.gz")),
    "pictures": ("p/a.png", lambda: png(PICTURES[0]), _folder),
    "config": ("run/model/config.json", lambda: good_model()["config.json"], _model),
    "weights": ("run/model/weights.safetensors", lambda: good_model()["weights.safetensors"],
                _model),
    "toml": ("run/config.toml", lambda: b'seed = 1\n[data]\nsource = "x.npy"\n[a.b]\nc = [1.5]\n',
             lambda path: reading.read_toml(path / "run" / "config.toml")),
    "arrays": ("run/evidence.npz", lambda: npz(f=REALS[:, 0], travel=SMALL),
               lambda path: reading.read_arrays(path / "run" / "evidence.npz")),
}  # fmt: skip

ODD = (b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80", b"-1", b"1e999", b"NaN", b"[" * 50,
       b"9" * 30, b'"', b"\n", b"\r", b"PK\x05\x06", b"\x1f\x8b", b"\xef\xbb\xbf")  # fmt: skip


def damaged(content, rng):
    """`content` after one to six accidents, half of them in the first 150 bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 7)):
        length = len(data)
        at = int(rng.integers(0, max(1, min(150, length) if rng.random() < 0.5 else length)))
        kind = rng.integers(0, 7)
        if kind == 0 and length:
            data[min(at, length - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and length:
            data[min(at, length - 1)] = int(rng.integers(0, 256))
        elif kind == 2:
            odd = ODD[int(rng.integers(0, len(ODD)))]
            data[at : at + len(odd)] = odd
        elif kind == 3:
            data[at:at] = ODD[int(rng.integers(0, len(ODD)))]
        elif kind == 4:
            del data[at : at + int(rng.integers(1, 40))]
        elif kind == 5:
            data[at:at] = data[at : at + int(rng.integers(1, 200))]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def attempt(reader, count, seed, folder):
    """Try `count` damaged files; how many load, and the slowest, in seconds.

    Raises:
        AssertionError: something else than an InputError came out, or not in time.
    """
    name, whole, reads = READERS[reader]
    if name.startswith("run/"):
        write_run(folder / "run")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if reader == "pictures":
        for number in range(20):
            (path.parent / f"b{number}.png").write_bytes(png(PICTURES[number]))
    content, rng = whole(), np.random.default_rng(seed)
    path.write_bytes(content)
    reads(folder)  # it is a good one
    loaded, slowest = 0, 0.0
    previous = signal.signal(signal.SIGALRM, _hung)
    try:
        for number in range(count):
            data = damaged(content, rng)
            path.write_bytes(data)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            started = time.monotonic()
            try:
                reads(folder)
                loaded += 1
            except InputError as error:
                if not str(error).isprintable():
                    raise AssertionError(f"{reader}, seed {seed}, file {number}: lines") from error
            except BaseException as error:
                raise AssertionError(f"{reader}, seed {seed}, file {number}: {error!r}") from error
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.monotonic() - started)
    finally:
        signal.signal(signal.SIGALRM, previous)
    return loaded, slowest


def _hung(*_):
    raise TimeoutError(f"no end after {SECONDS} s")


def _main(reader, count, seed):
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "first").mkdir()
        attempt(reader, 0, 0, Path(folder) / "first")  # everything is imported and compiled
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        loaded, slowest = attempt(reader, count, seed, Path(folder) / "all")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    told = {"loaded": loaded, "slowest": round(slowest, 3), "grown_mib": grown // 1024}
    print(json.dumps(told))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
