"""Training, validation and test rows: the set's own, or a seeded permutation, cut twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltflow.data.checks import FEWEST_ROWS
from tiltflow.data.dataset import Dataset
from tiltflow.errors import InputError


@dataclass(frozen=True, eq=False)
class Splits:
    """Row indices (int64, one axis each), disjoint, together every row once."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def split(data: Dataset, *, seed: int = 0) -> Splits:
    """Split the rows of `data`.

    The 1,797 digits always have their published split, whatever the seed: seed 0, 1,300 / 200 /
    297 rows. A set that comes with test rows keeps them, shuffled, as they may lie in the order of
    their classes, and gives 10% of the others to validation. Any other data keep 20% for test and
    10% for validation, at least 5 rows each.

    Raises:
        InputError: fewer than 20 rows, or a negative seed.
    """
    rows, known = data.rows, data.rows - data.test_rows
    if known < FEWEST_ROWS:
        raise InputError(
            f"{known} rows are too few to split; expected at least {FEWEST_ROWS}: bring more data"
        )
    if seed < 0:
        raise InputError(f"the split's seed is {seed}; expected 0 or more")
    if data.test_rows:
        generator = np.random.default_rng(seed)
        order, test = generator.permutation(known), generator.permutation(data.test_rows)
        train = known - max(1, round(0.1 * known))
        return Splits(order[:train], order[train:], known + test)
    if (data.name, rows) == ("digits", 1797):
        seed, val, test = 0, 200, 297
    else:
        val, test = max(5, round(0.1 * rows)), max(5, round(0.2 * rows))
    order = np.random.default_rng(seed).permutation(rows)
    train = rows - val - test
    return Splits(order[:train], order[train : train + val], order[train + val :])
