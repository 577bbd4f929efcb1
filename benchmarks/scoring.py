"""Scores of rows: rows a second from a file to a table, and what memory does with their number.

    python benchmarks/scoring.py [--json FILE] [--rows N] [--columns N] [--trained N]

A model of the size that suits `--trained` training rows (1,300 by default; it is larger from 5,000
on), not learned, scores `--rows` rows of a CSV file into another one, with the names of rows
passed through, as `tiltflow score` does: reading, scoring, tail probabilities and writing are
counted, compiling is not. `wall` is by the clock; `processor` by the processor's time, which other
programs of the machine do not change. Peak memory is that of the program after so many rows, and
after four times as many.

Exits with 1 where fewer than 100,000 rows a second of processor time are scored, or the peak grows
by more than 100 MiB. Keys of the JSON: rows, columns, trained, cores, wall, processor (rows a
second), peak_mib, grown_mib, missed.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax.random as jr
import numpy as np
import pyarrow
from pyarrow import csv

from tiltflow.backbones import fit_units
from tiltflow.data.batches import Batch, read_batches
from tiltflow.evaluation.row_scores import RowScorer
from tiltflow.evaluation.scored_table import Seen, held_out_scores, scored
from tiltflow.fitting.recipes import begin_backbone, begin_tilt, specification
from tiltflow.fitting.settings import suited
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.runs.row_tables import writing_rows

LEAST, MOST_GROWN = 100_000, 100  # rows a second; MiB
PART = 50_000  # rows that are written together


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--trained", type=int, default=1_300)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(arguments.columns, arguments.columns))
    fitted = model(rng.normal(size=(2_000, arguments.columns)) @ mix, arguments.trained)
    scorer = RowScorer(fitted)
    held_out = held_out_scores(scorer, rng.normal(size=(2_000, arguments.columns)) @ mix)
    told = {name: getattr(arguments, name) for name in ("rows", "columns", "trained")}
    told["cores"] = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        for times in (1, 4):
            written(path, mix, times * arguments.rows)
            run(scorer, path, 1_000, held_out, fitted)  # everything is loaded and compiled
            began, worked = time.perf_counter(), time.process_time()
            rows = run(scorer, path, times * arguments.rows, held_out, fitted)
            seconds = time.perf_counter() - began, time.process_time() - worked
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            if times == 1:
                told |= {"peak_mib": round(peak)}
        told |= {"wall": round(rows / seconds[0]), "processor": round(rows / seconds[1])}
        told["grown_mib"] = round(peak - told["peak_mib"])
    missed = []
    if told["processor"] < LEAST:
        missed.append(f"{told['processor']:,} rows a second of processor time, at least {LEAST:,}")
    if told["grown_mib"] > MOST_GROWN:
        missed.append(f"the peak grows by {told['grown_mib']} MiB, at most {MOST_GROWN}")
    told["missed"] = missed
    for name, value in told.items():
        print(f"{name:<12} {value if isinstance(value, list) else format(value, ',')}")
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")
    return 1 if missed else 0


def model(rows: np.ndarray, trained: int) -> FittedModel:
    """A model as it is before learning, of the size that suits so many training rows."""
    settings = suited(trained, rows.shape[1])
    units = fit_units("standardise", rows, integers=False)
    spec = specification(settings.model, units)
    backbone = begin_backbone(spec, units, key=jr.key(1))
    tilt, _ = begin_tilt(spec, None, 0, key=jr.key(2))
    log_z = LogZ(0.0, 0.01, -0.02, 0.02, "bridge", 900.0, 800.0, holds=True, words="")
    return FittedModel(TiltedModel(backbone, tilt), spec, log_z, False, 0.5, 4)


def written(path: Path, mix: np.ndarray, rows: int) -> None:
    """A table of names and normal numbers."""
    rng, width = np.random.default_rng(1), len(mix)
    schema = pyarrow.schema([("id", "string"), *((f"c{i}", "float") for i in range(width))])
    with csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, PART):
            number = min(PART, rows - start)
            x = (rng.normal(size=(number, width)) @ mix).astype(np.float32)
            ids = [f"row {start + i}" for i in range(number)]
            writer.write_batch(pyarrow.record_batch([ids, *x.T], schema))


def run(scorer: RowScorer, path: Path, rows: int, held_out: np.ndarray, fitted: FittedModel) -> int:
    """Score the first `rows` rows of the table at `path`, as `tiltflow score` does."""
    width = fitted.model.backbone.data_shape[0]
    columns = [f"c{i}" for i in range(width)]
    found, seen = read_batches(str(path), width, columns=columns, kept="id"), Seen()
    how = {"log_z": 0.0, "held_out": held_out, "names": columns, "shape": (width,), "kept": "id"}
    with writing_rows(path.with_name("scores.csv")) as table:
        for some in scored(scorer, first(found.rows, rows), seen, **how):
            table.write(some)
    return seen.rows


def first(batches: Iterator[Batch], rows: int) -> Iterator[Batch]:
    """The batches until so many rows have been in them."""
    for batch in batches:
        yield batch
        rows -= len(batch.values)
        if rows <= 0:
            return


if __name__ == "__main__":
    sys.exit(main())
