"""A density of independent columns: masses where a column has few values, smooth elsewhere.

It is blind to how columns go together, and sees a rare value whatever stands beside it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

FEW_VALUES = 30  # a column of at most so many has masses
BINS = 2_048
MARGIN = 1.0  # beyond the outermost rows, in standard units
BLUR, OF_ROWS, POWER = 0.2, 1_000, -0.2  # standard units, at so many rows; shrinks with more
FLOOR = 1e-6  # of a density
FALL = 1.0  # nats a standard unit, beyond the grid
UNSEEN = 0.5  # rows that a value counts for that no row has


class Masses(NamedTuple):
    """A column of few values: they, ascending, log of their masses, and that of any other."""

    values: np.ndarray
    logs: np.ndarray
    unseen: float

    def log_prob(self, x: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Of each value, in nats."""
        at = np.minimum(np.searchsorted(self.values, x), len(self.values) - 1)
        return np.where(self.values[at] == x, self.logs[at], self.unseen)


class Smooth(NamedTuple):
    """A column of many values: log-densities in bins of width `step` from `low` on."""

    low: float
    step: float
    logs: np.ndarray

    def log_prob(self, x: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Of each value, in nats."""
        high = self.low + self.step * len(self.logs)
        at = np.clip((x - self.low) / self.step, 0, len(self.logs) - 1).astype(int)
        beyond = np.maximum(self.low - x, 0) + np.maximum(x - high, 0)
        return self.logs[at] - FALL * beyond


class Columns(NamedTuple):
    """A product of columns."""

    columns: tuple[Masses | Smooth, ...]

    @classmethod
    def fit(cls, z: Float[np.ndarray, "rows columns"]) -> "Columns":
        """Of rows in standard units."""
        return cls(tuple(_masses(x) if _has_few_values(x) else _smooth(x) for x in z.T))

    def energy(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
        """-log density of each row, in nats."""
        return self.by_column(z).sum(axis=1)

    def by_column(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
        """What each column adds to the energy."""
        pairs = zip(self.columns, z.T, strict=True)
        return -np.stack([column.log_prob(x) for column, x in pairs], axis=1)


def _has_few_values(x: np.ndarray) -> bool:
    return len(np.unique(x)) <= FEW_VALUES


def _masses(x: np.ndarray) -> Masses:
    values, counts = np.unique(x, return_counts=True)
    return Masses(values, np.log(counts / (len(x) + 1)), float(np.log(UNSEEN / (len(x) + 1))))


def _smooth(x: np.ndarray) -> Smooth:
    low, high = float(x.min() - MARGIN), float(x.max() + MARGIN)
    step = (high - low) / BINS
    counts, _ = np.histogram(x, BINS, (low, high))
    blur = BLUR * (len(x) / OF_ROWS) ** POWER
    density = gaussian_filter1d(counts / (len(x) * step), blur / step, mode="constant")
    return Smooth(low, step, np.log(np.maximum(density, FLOOR)))
