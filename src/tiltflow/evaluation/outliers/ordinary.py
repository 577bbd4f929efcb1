"""The more ordinary half of rows, which a density is learned from where outliers may be among them.

A density that has seen the outliers gives them mass. Half is the most that can be left out while
the rest is still a majority: the breakdown point of the least trimmed squares (Rousseeuw 1984).
"""

import numpy as np
from jaxtyping import Float, Int

from tiltflow.evaluation.outliers.distances import parts, squared_distances

NEAREST = 0.1  # of the rows, whose mean distance says how ordinary a row is
MOST_COMPARED = 4_000  # rows that distances are taken to


def ordinary_half(
    z: Float[np.ndarray, "rows columns"], rng: np.random.Generator
) -> Int[np.ndarray, " half"]:
    """Indices, in their order, of the half with the smallest mean distance to the nearest tenth.

    Args:
        z: rows in standard units.
        rng: chooses the 4,000 that distances are taken to, where there are more.
    """
    compared = np.arange(len(z))
    if len(z) > MOST_COMPARED:
        compared = np.sort(rng.choice(len(z), MOST_COMPARED, replace=False))
    away = mean_distance(z, compared, max(1, round(NEAREST * len(compared))))
    return np.sort(np.argsort(away, kind="stable")[: (len(z) + 1) // 2])


def mean_distance(
    z: Float[np.ndarray, "rows columns"], compared: Int[np.ndarray, " some"], nearest: int
) -> Float[np.ndarray, " rows"]:
    """Of each row to its `nearest` among the rows `compared`, itself left out."""
    among = np.full(len(z), -1)
    among[compared] = np.arange(len(compared))
    found = np.empty(len(z))
    for some in parts(len(z), len(compared)):
        squares = squared_distances(z[some], z[compared])
        itself = np.flatnonzero(among[some] >= 0)
        squares[itself, among[some][itself]] = np.inf
        found[some] = np.sqrt(np.partition(squares, nearest - 1, axis=1)[:, :nearest]).mean(axis=1)
    return found
