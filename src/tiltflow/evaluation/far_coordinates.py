"""Whether units have led the columns' tails in: what a backbone and a tilt read is to have a scale.

Standardised, a column without a variance is as wide as its farthest row: all others lie in a heap,
and the flow and the tilt follow that row. Behind a histogram between power tails it is a normal
column like any other. So it is not the columns that are judged here, but their coordinates.
"""

import jax.random as jr
import numpy as np

from tiltflow.data.far_rows import far_rows
from tiltflow.diagnostics.verdict import Check
from tiltflow.learning import Rows
from tiltflow.normalizer.pareto import pareto_k

LOOKED_AT = 20_000  # rows
NO_VARIANCE = 0.7  # Pareto k-hat of a coordinate's distance from its median
LIMIT = 0.2
"""Of a coordinate's sum of squares in one row: a normal density pays half, in nats a row."""


def within_scale(train: Rows) -> list[Check]:
    """The check that no row carries a coordinate of the rows that are learned from.

    None of images, whose numbers have bounds.

    Args:
        train: in the units of the backbone.
    """
    if train.values.ndim != 2:
        return []
    y = train.first(LOOKED_AT).every(jr.key(0), 1)[0][:, 0].astype(np.float64)
    found = far_rows(y) if np.isfinite(y).all() else []
    found = [far for far in found if far.share >= LIMIT]
    share, means, tail = 0.0, "", 0.0
    if found:
        far = found[0]
        share = far.share
        away = np.abs(y[:, far.column] - np.median(y[:, far.column]))
        tail = pareto_k(np.log(np.maximum(away, np.finfo(float).tiny)))
        value = float(train.array()[far.row, min(far.column, train.values.shape[1] - 1)])
        means = (
            f"In the units of the backbone, row {far.row} of those that are learned from "
            f"({value:g} in column {far.column}) is {share:.0%} of the spread of its column"
            + (
                f", whose tail has no variance (Pareto k-hat {tail:.2f}): backbone and tilt follow "
                "so few rows."
                if tail > NO_VARIANCE
                else ": backbone and tilt follow that row."
            )
        )
    return [
        Check(
            name="largest row's share of a column's spread, in the backbone's units",
            value=share,
            limit=LIMIT,
            ok=not found,
            part="data",
            severity="failed" if tail > NO_VARIANCE else "caution",
            means=means,
            try_="Use units that bend tails (`--units tails`), take logarithms of the column, or "
            "leave the row out if it is a mistake.",
        )
    ]
