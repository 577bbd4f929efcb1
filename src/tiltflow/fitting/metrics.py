"""What `metrics.json` says of a fit beside chains and verdict, and what the verdict looks at."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tiltflow.data import Dataset, Splits
from tiltflow.data.far_rows import far_rows
from tiltflow.data.grids import Grid
from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.assess import known
from tiltflow.evaluation.calibration import Calibration
from tiltflow.evaluation.likelihood import Likelihood, bits_per_dim, gain_block
from tiltflow.learning.witnesses import Judgement
from tiltflow.normalizer import Interval, LogZ

WELL_SCALED = 0.2  # beyond it the scale of a tilt says that learning went wrong
MOST_FAR = 20  # that are listed
ROUNDING = 1e-6  # nats: a gain of less is none
WORSE = 0.02  # nats a row that a tilt may cost: no reason for doubt
HONEST = 0.3  # nats between the witnesses' log Z and that of fresh chains


def of_data(data: Dataset, parts: Splits) -> dict[str, Any]:
    """The block `data`."""
    return {
        "name": data.name,
        "train": len(parts.train),
        "val": len(parts.val),
        "test": len(parts.test),
        "shape": list(data.shape),
        "integers": data.integers,
        "kinds": data.kinds,
        **({"grid": _of_grid(data.grid)} if data.grid is not None else {}),
        **({"note": data.note} if data.note else {}),
        **({"far_rows": far} if (far := _of_far_rows(data)) else {}),
    }


def _of_grid(grid: Grid) -> dict[str, Any]:
    """How many numbers of a row are dequantised, and the log of their cells' volume, nats."""
    return {"numbers": int(grid.cells.sum()), "log_cell": round(grid.log_cell, 6)}


def _of_far_rows(data: Dataset) -> list[dict[str, Any]]:
    """The rows that carry a column, at most `MOST_FAR`, the largest share first."""
    skipped = None if data.grid is None else data.grid.categories
    return [far._asdict() for far in far_rows(data.values, skipped)[:MOST_FAR]]


def seconds_of(ended: dict[str, float], sampled: float, now: float) -> dict[str, float]:
    """Of each stage of learning, of sampling, and in all; a mixture counts as part of the tilt."""
    ends = {name: at for name, at in ended.items() if name != "mixture"} | {"sampling": sampled}
    begins = [0.0, *ends.values()]
    each = {
        name: round(end - begin, 2)
        for (name, end), begin in zip(ends.items(), begins, strict=False)
    }
    return each | {"total": round(now, 2)}


def of_likelihood(found: Likelihood, log_z: LogZ) -> dict[str, Any]:
    """The blocks `backbone`, `tilted`, `gain_nats` and `log_z` of the metrics."""
    return {
        "backbone": {"nll_test": found.backbone.mean},
        "tilted": {
            "nll_test": found.tilted.mean,
            "nll_low": found.tilted.low,
            "nll_high": found.tilted.high,
        },
        "gain_nats": gain_block(found.gain),
        "log_z": log_z.to_dict(),
    }


def are_bytes_of_images(data: Dataset) -> bool:
    """Whether they are images of 8-bit integers, or of as many levels in another unit."""
    if data.grid is not None:
        cells = data.grid.cells.all() and np.ptp(data.values) <= 255.5 * data.grid.step.max()
        return bool(cells) and len(data.shape) > 1
    in_bytes = data.integers and data.values.min() >= 0 and data.values.max() <= 255
    return bool(in_bytes) and len(data.shape) > 1


def add_bits(metrics: dict[str, Any], dim: int) -> None:
    """Bits per dimension beside the nats per example."""
    for block, nats, bits in (
        ("backbone", "nll_test", "bpd"),
        ("tilted", "nll_test", "bpd"),
        ("tilted", "nll_low", "bpd_low"),
        ("tilted", "nll_high", "bpd_high"),
    ):
        metrics[block][bits] = bits_per_dim(metrics[block][nats], dim)


def checks_of(
    log_z: LogZ, judgement: Judgement, gained: Interval, calibration: Calibration | None
) -> list[Check]:
    """What is judged beside the chains: log Z, and whether learning has told the truth.

    `judgement` is of the tilt before its `calibration`, if there was one. What it told wrong was
    then mended, so that a large difference is a reason for caution only.

    Of a model that is its backbone there is nothing to tell.
    """
    if is_backbone(gained):
        return [known(log_z)]
    worse = [] if math.isnan(gained.mean) else [_not_worse(gained)]
    if calibration is None or not calibration.matters:
        return [known(log_z), _honest(log_z, judgement), *worse]
    before = replace(log_z, mean=log_z.mean - calibration.log_ratio)
    honest = replace(_honest(before, judgement), severity="caution")
    return [known(log_z), honest, _calibrated(calibration), *worse]


def is_backbone(gained: Interval) -> bool:
    """Whether the tilt is nothing: the same at all test rows, and log Z that."""
    return max(abs(gained.low), abs(gained.high)) <= ROUNDING


def _honest(log_z: LogZ, judgement: Judgement) -> Check:
    apart = abs(log_z.mean - float(judgement.log_z))
    allowed = max(HONEST, 3 * log_z.standard_error)
    return Check(
        name="witnesses against fresh chains",
        value=apart,
        limit=allowed,
        ok=apart <= allowed,
        part="tilt",
        rests_on=("chains", "log Z"),
        severity="caution" if apart <= 3 * allowed else "failed",
        means="Learning and chains started afresh disagree about log Z, in nats: the gain "
        "that learning showed is not the model's.",
        try_="Trust the numbers of the fresh chains; learn with more particles, or at a lower "
        "rate.",
    )


def _calibrated(calibration: Calibration) -> Check:
    return Check(
        name="scale of the tilt, off 1 by",
        value=abs(calibration.beta - 1),
        limit=WELL_SCALED,
        ok=abs(calibration.beta - 1) <= WELL_SCALED,
        part="tilt",
        severity="caution",
        means=f"The tilt was multiplied by {calibration.beta:.3g}, which is worth "
        f"{calibration.rise:.2f} nats on validation data: it had been learned for too long, or by "
        "particles that lagged.",
        try_="Believe these numbers: chains and log Z are those of the scaled tilt. Learn with "
        "more transitions a stage for a better one.",
    )


def _not_worse(gained: Interval) -> Check:
    """A gain that may be none is no reason for doubt: numbers are right, and say so."""
    return Check(
        name="gain, upper end",
        value=gained.high,
        limit=-WORSE,
        ok=gained.high >= -WORSE,
        part="tilt",
        rests_on=("chains", "log Z"),
        severity="caution",
        means="The tilt makes the model worse on rows that it has not seen.",
        try_="Use the backbone alone; bring more data, or learn for fewer steps.",
    )
