"""Precision, recall, density, coverage: fidelity and variety by nearest neighbours.

A ball about each row reaches to its k-th nearest neighbour in its own set.

- precision: share of samples inside some ball of the data; recall: share of data inside some ball
  of the samples (Kynkaanniemi et al. 2019, arXiv 1904.06991, eqs. 1 and 2).
- density: how many balls of the data a sample is in, over k; above 1 where samples crowd in the
  thick of the data. coverage: share of the data's balls with a sample inside (Naeem et al. 2020,
  arXiv 2002.09797). Both use the data's balls alone, so outliers among the samples
  do them no harm; between equal distributions coverage is 1 - 2^-k, not 1.

Each is a mean over rows, and its standard error is that of a mean, for the balls as they are; where
samples are draws of chains, precision and density are means over chains. Recall and coverage are
means over data, and their errors leave out that other samples would reach other rows: they are too
small, by a fifth where samples are independent and by half where chains hardly move.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.errors import InputError
from tiltflow.evaluation.quality.groups import mean_error, numbered, share_error

NEIGHBOURS = 5
PART = 1_000  # rows whose distances are in memory together


@dataclass(frozen=True)
class Mean:
    """A mean over rows and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Neighbours:
    """The four numbers; `k` is the neighbour that a ball reaches to."""

    precision: Mean
    recall: Mean
    density: Mean
    coverage: Mean
    k: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def neighbours(
    samples: np.ndarray,
    reference: np.ndarray,
    k: int = NEIGHBOURS,
    *,
    groups: ArrayLike | None = None,
) -> Neighbours:
    """The four numbers of features `samples` `[n, d]` against `reference` `[m, d]`.

    Memory is that of 1,000 rows' distances to the other set, whatever the number of rows.

    Args:
        samples, reference: features.
        k: the neighbour that a ball reaches to.
        groups: the chain of each sample, integers `[n]`; None: samples are independent.

    Raises:
        InputError: k below 1, or not below the number of rows of both sets; groups that do not
            fit the samples.
    """
    fewest = min(len(samples), len(reference))
    if not 1 <= k < fewest:
        raise InputError(f"k is {k} for sets of {fewest} rows; expected 1 to {fewest - 1}")
    of_samples, of_reference = numbered(groups, len(samples)), numbered(None, len(reference))
    around_samples, around_reference = radii(samples, k), radii(reference, k)
    balls = np.zeros(len(samples))
    recalled = np.zeros(len(reference), bool)
    covered = np.zeros(len(reference), bool)
    for start in range(0, len(samples), PART):
        rows = slice(start, start + PART)
        apart = squared_distances(samples[rows], reference)
        inside = apart <= around_reference
        balls[rows] = inside.sum(axis=1)
        covered |= inside.any(axis=0)
        recalled |= (apart <= around_samples[rows, None]).any(axis=0)
    return Neighbours(
        precision=_share(balls > 0, of_samples),
        recall=_share(recalled, of_reference),
        density=Mean(float(balls.mean() / k), float(mean_error(balls / k, of_samples))),
        coverage=_share(covered, of_reference),
        k=k,
    )


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row of `[n, d]` to its k-th nearest other row, `[n]`."""
    found = np.empty(len(features))
    for start in range(0, len(features), PART):
        rows = slice(start, start + PART)
        apart = squared_distances(features[rows], features)
        own = np.arange(len(apart))
        apart[own, own + start] = np.inf
        found[rows] = np.partition(apart, k - 1, axis=1)[:, k - 1]
    return found


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Between rows of `x` `[n, d]` and `y` `[m, d]`, `[n, m]`."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return squares.clip(0)


def _share(inside: np.ndarray, of_rows: np.ndarray) -> Mean:
    return Mean(float(inside.mean()), float(share_error(inside[:, None], of_rows)[0]))
