"""Frechet distance: how far apart two sets of features are, each taken as a Gaussian.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)

the squared 2-Wasserstein distance of the two Gaussians (Heusel et al. 2017, arXiv 1706.08500,
eq. 6). Its units are those of the features, squared. The estimate from n rows is too large by
about a constant over n (Chong and Forsyth 2020, arXiv 1911.07023), so it is told beside its values
at n/2, n/4 and n/8, the line through them at infinite n, and that of real data against real data.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.evaluation.quality.groups import number_of, numbered, part, resampled

PARTS = (8, 4, 2, 1)
REPLICATES = 50


@dataclass(frozen=True)
class Frechet:
    """A Frechet distance with its error and its bias.

    Attributes:
        value: of all rows.
        standard_error: by the bootstrap of both sets' rows, or of whole chains.
        by_size: (rows of each set, mean value of that many), to see the bias of few rows.
        extrapolated: to infinitely many rows, by the line in 1/n; may be slightly negative.
    """

    value: float
    standard_error: float
    by_size: tuple[tuple[int, float], ...]
    extrapolated: float

    @property
    def interval(self) -> tuple[float, float]:
        """95%, of what other rows of the same number would give: the bias is in it."""
        return self.value - 1.96 * self.standard_error, self.value + 1.96 * self.standard_error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        low, high = self.interval
        return asdict(self) | {
            "low": low,
            "high": high,
            "by_size": [{"rows": rows, "value": value} for rows, value in self.by_size],
        }


def frechet(
    samples: np.ndarray,
    reference: np.ndarray,
    *,
    rng: np.random.Generator,
    replicates: int = REPLICATES,
    groups: ArrayLike | None = None,
) -> Frechet:
    """The distance of features `samples` `[n, d]` from `reference` `[m, d]`.

    Args:
        samples, reference: features, whose order must not matter: they are cut into parts.
        rng: of the bootstrap.
        replicates: of the bootstrap.
        groups: the chain of each sample, integers `[n]`; None: samples are independent. Parts
            are of whole chains, and where there are fewer than 8 some sizes are left out.
    """
    sets = (
        (samples, numbered(groups, len(samples))),
        (reference, numbered(None, len(reference))),
    )
    fewest = min(number_of(of_rows) for _, of_rows in sets)
    by_size = tuple(_at(sets, parts) for parts in PARTS if parts <= fewest)
    boot = [
        between(*(moments(x[resampled(of_rows, rng)]) for x, of_rows in sets))
        for _ in range(replicates)
    ]
    sizes, values = np.array(by_size).T
    return Frechet(
        value=by_size[-1][1],
        standard_error=float(np.std(boot, ddof=1)),
        by_size=by_size,
        extrapolated=float(np.polyfit(1 / sizes, values, 1)[1]),
    )


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean `[d]` and the covariance `[d, d]` of features."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(features: np.ndarray) -> Moments:
    """The moments of features `[n, d]`, n at least 2."""
    mean = features.mean(axis=0)
    centred = features - mean
    return Moments(mean, centred.T @ centred / (len(features) - 1))


def between(one: Moments, other: Moments) -> float:
    """The distance of two Gaussians; singular covariances do no harm.

    The trace of the root is the sum of the roots of a symmetric matrix's eigenvalues, so no
    complex numbers come up, and those below zero by rounding are zero.
    """
    roots, vectors = np.linalg.eigh(one.covariance)
    half = vectors * np.sqrt(roots.clip(0)) @ vectors.T
    squares = np.linalg.eigvalsh(half @ other.covariance @ half)
    common = np.sqrt(squares.clip(0)).sum()
    shift = one.mean - other.mean
    spread = np.trace(one.covariance) + np.trace(other.covariance) - 2 * common
    return float(shift @ shift + spread)


def _at(sets: tuple[tuple[np.ndarray, np.ndarray], ...], parts: int) -> tuple[int, float]:
    """Rows of each set in a `parts`-th of them, and the mean distance of the parts.

    Each of the two sets is features `[rows, d]` with their groups `[rows]`.
    """
    found = [
        between(*(moments(x[part(of_rows, i, parts)]) for x, of_rows in sets)) for i in range(parts)
    ]
    return min(len(x) for x, _ in sets) // parts, float(np.mean(found))
