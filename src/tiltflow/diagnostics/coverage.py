"""Do two sets of draws agree? Means of many quantities, compared in standard errors.

The error of a chain's mean counts its effective draws, not its draws. Among many quantities some
are far apart by chance, so the limit grows with their number (Bonferroni).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from tiltflow.diagnostics.convergence import ess_mean, rhat

MISSED = 1e-3
"""The chance that any one of all quantities is beyond the limit though nothing is wrong."""


@dataclass(frozen=True, eq=False)
class Means:
    """Means of quantities, and how well they are known.

    Attributes:
        mean, error, spread: `[quantities]`: mean, its standard error, the standard deviation.
        known: whether enough is known to compare, `[quantities]`.
    """

    mean: np.ndarray
    error: np.ndarray
    spread: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two sets of means, held against each other where both are known.

    Attributes:
        z: differences in standard errors, `[quantities]`; NaN where they are not compared.
        gap: differences in standard deviations of the second set, `[quantities]`.
        certain: how much of `gap` is beyond the limit of chance, at least 0, `[quantities]`.
        limit: of |z|, from the number of quantities compared.
        compared: the share of the quantities that was.
    """

    z: np.ndarray
    gap: np.ndarray
    certain: np.ndarray
    limit: float
    compared: float

    @property
    def worst(self) -> int:
        """The quantity with the largest |z|; 0 if none is compared."""
        return int(np.argmax(np.nan_to_num(np.abs(self.z), nan=-1.0)))

    @property
    def largest_z(self) -> float:
        """The largest |z|; NaN if none is compared."""
        return float(np.abs(self.z[self.worst]))


def of_chains(draws: ArrayLike, *, rhat_max: float = np.inf, ess_min: float = 0.0) -> Means:
    """Means over chains, `[chains, draws, quantities]`.

    A quantity is known if its R-hat is at most `rhat_max` and the effective size of its mean at
    least `ess_min`.
    """
    draws = np.asarray(draws)
    size = ess_mean(draws)
    spread = draws.std(axis=(0, 1), dtype=np.float64)
    known = np.isfinite(size) & (size >= max(ess_min, 1.0))
    if np.isfinite(rhat_max):
        known &= np.nan_to_num(rhat(draws), nan=np.inf) <= rhat_max
    error = spread / np.sqrt(np.where(known, size, np.nan))
    return Means(draws.mean(axis=(0, 1), dtype=np.float64), error, spread, known)


def of_rows(rows: ArrayLike) -> Means:
    """Means over independent rows, `[rows, quantities]`; known if they vary."""
    rows = np.asarray(rows, np.float64)
    spread = rows.std(axis=0, ddof=1)
    return Means(rows.mean(axis=0), spread / np.sqrt(len(rows)), spread, spread > 0)


def compare(first: Means, second: Means) -> Comparison:
    """`first` minus `second`."""
    known = first.known & second.known
    number = int(known.sum())
    limit = float(-ndtri(0.5 * MISSED / max(number, 1)))
    error = np.sqrt(first.error**2 + second.error**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.where(known, first.mean - second.mean, np.nan)
        certain = np.maximum(np.abs(difference) - limit * error, 0.0) / second.spread
        return Comparison(
            z=difference / error,
            gap=difference / second.spread,
            certain=np.where(known, certain, 0.0),
            limit=limit,
            compared=number / max(len(known), 1),
        )
