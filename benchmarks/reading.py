"""A table of numbers from a file: what reading costs beside the library that does the parsing.

    python benchmarks/reading.py [--json FILE] [--rows N] [--columns N] [--rounds N]

One table, normal numbers of eight digits, is written as text, gzipped text and Parquet. Of each,
four programs run in turn, in a new order in each round, and are compared within rounds
(`timing.py`): pyarrow alone, with the types that it finds; the same as one NumPy array, which is
what a reader of rows has to make of it; `tiltflow`'s reader; and `tiltflow.load_data`, which also
checks every value. Polars' reader runs beside them where it is installed. `exact` is the reader
that names what is wrong, cell by cell.

Exits with 1 where tiltflow's reader takes more than twice the time of the library alone.
Keys of the JSON: {format}.{program}.{seconds, ratio}, rows, columns, cores, missed.
"""

import argparse
import gzip
import json
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import interleaved, ratio

from tiltflow.data import load
from tiltflow.data.exact_rows import exact_batches
from tiltflow.data.sources import read
from tiltflow.data.text import head_of

MOST = 2.0  # times what the library alone takes
ALONE, ARRAY, READER, CHECKED, PEER, EXACT = (
    "library alone", "library, as an array", "tiltflow's reader", "load_data", "Polars", "exact",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exact", action="store_true", help="time the exact reader, too")
    arguments = parser.parse_args()
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in written(Path(folder), arguments.rows, arguments.columns):
            seconds = interleaved(programs(path, exact=arguments.exact), rounds=arguments.rounds)
            told[path.name.removeprefix("x")] = {
                name: {"seconds": float(np.median(s)), "ratio": ratio(s, seconds[ALONE])}
                for name, s in seconds.items()
            }
    missed = [
        f"{ending}: {each[READER]['ratio']:.2f} times the library alone, at most {MOST:g}"
        for ending, each in told.items()
        if each[READER]["ratio"] > MOST
    ]
    show(told, arguments)
    for line in missed:
        print(f"missed: {line}")
    if arguments.json:
        about = {name: getattr(arguments, name) for name in ("rows", "columns")}
        whole = {**told, **about, "cores": len(os.sched_getaffinity(0)), "missed": missed}
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 1 if missed else 0


def written(folder: Path, rows: int, columns: int) -> list[Path]:
    """The table in each format."""
    import pyarrow
    from pyarrow import csv, parquet

    values = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    table = pyarrow.table({f"c{place}": values[:, place] for place in range(columns)})
    paths = [folder / f"x{ending}" for ending in (".csv", ".csv.gz", ".parquet")]
    csv.write_csv(table, paths[0])
    with paths[0].open("rb") as plain, gzip.open(paths[1], "wb", 1) as packed:
        while part := plain.read(2**22):
            packed.write(part)
    parquet.write_table(table.cast(pyarrow.schema([(f.name, "double") for f in table.schema])),
                        paths[2])  # fmt: skip
    return paths


def programs(path: Path, *, exact: bool) -> dict[str, Callable[[], np.ndarray | None]]:
    """What runs in turn."""
    from pyarrow import csv, parquet

    alone = parquet.read_table if path.suffix == ".parquet" else csv.read_csv

    def as_array() -> np.ndarray:
        return np.stack([column.to_numpy() for column in alone(path).columns], axis=1)

    found = {
        ALONE: lambda: (alone(path), None)[1],
        ARRAY: as_array,
        READER: lambda: read(path).array,
        CHECKED: lambda: load(path).values,
    }
    if find_spec("polars") is not None:
        import polars

        of = polars.read_parquet if path.suffix == ".parquet" else polars.read_csv
        found[PEER] = lambda: (of(path), None)[1]
    if exact and path.suffix != ".parquet":
        head = head_of(path)
        found[EXACT] = lambda: [len(v) for v, _ in exact_batches(path, head, range(head.width))]
    return found


def show(told: dict, arguments: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    title = f"{arguments.rows:,} x {arguments.columns}, {cores} cores: seconds (ratio)"
    names = list(dict.fromkeys(name for each in told.values() for name in each))
    table = Table("", *names, title=title, title_justify="left", box=None)
    for ending, each in told.items():
        cells = (each.get(name) for name in names)
        table.add_row(
            ending, *(f"{c['seconds']:.2f} ({c['ratio']:.2f})" if c else "" for c in cells)
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
