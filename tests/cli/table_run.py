"""A run of a table whose model was not learned, as `tiltflow fit` leaves one."""

from dataclasses import replace

import jax.random as jr
import numpy as np

from tiltflow.backbones import fit_units
from tiltflow.data import Dataset
from tiltflow.data.grids import grid_of
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.runs import atomic

X = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
LOG_Z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")


def text(rows, names="a,b", ids=None):
    lines = [names, *(",".join(map(str, row)) for row in rows.tolist())]
    if ids is not None:
        lines = [f"{first},{line}" for first, line in zip(["id", *ids], lines, strict=True)]
    return "\n".join(lines) + "\n"


def made(folder, status="ok", log_z=LOG_Z, rows=X, integers=False):
    """The run, of columns a and b."""
    source = folder.parent / "train.csv"
    source.parent.mkdir(exist_ok=True)
    source.write_text(text(rows))
    data = Dataset("train.csv", rows, integers, columns=("a", "b"))
    data = replace(data, grid=None if integers else grid_of(rows))
    return made_of(folder, data, source, status=status, log_z=log_z)


def made_of(folder, data, source, status="ok", log_z=LOG_Z, kind="auto", **how):
    """The run of data that were read from a file, as `how` says."""
    cells = data.values if data.grid is None else data.grid.to_cells(data.values)
    units = fit_units(kind, cells, integers=data.integers, grid=data.grid)
    spec = specify(units, blocks=1, flow_width=8, tilt_width=8)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    fitted = FittedModel(
        model, spec, log_z, data.integers, 0.5, 4, grid=data.grid, columns=data.columns
    )
    fitted.save(folder / "model")
    atomic.write_toml(
        folder / "config.toml", {"data": {"source": str(source), "name": data.name, **how}}
    )
    atomic.write_bytes(folder / "events.jsonl", b"")
    verdict = {"status": status, "text": "", "checks": []}
    atomic.write_json(folder / "metrics.json", {"verdict": verdict})
    return folder
