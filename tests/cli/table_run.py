"""A run of a table whose model was not learned, as `tiltflow fit` leaves one."""

import jax.random as jr
import numpy as np

from tiltflow.backbones import fit_units
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
    grid = None if integers else grid_of(rows)
    units = fit_units("auto", rows, integers=integers, grid=grid)
    spec = specify(units, blocks=1, flow_width=8, tilt_width=8)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    source = folder.parent / "train.csv"
    source.parent.mkdir(exist_ok=True)
    source.write_text(text(rows))
    fitted = FittedModel(model, spec, log_z, integers, 0.5, 4, grid=grid, columns=("a", "b"))
    fitted.save(folder / "model")
    atomic.write_toml(
        folder / "config.toml", {"data": {"source": str(source), "name": "train.csv"}}
    )
    atomic.write_bytes(folder / "events.jsonl", b"")
    verdict = {"status": status, "text": "", "checks": []}
    atomic.write_json(folder / "metrics.json", {"verdict": verdict})
    return folder
