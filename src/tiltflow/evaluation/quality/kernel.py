"""Kernel distance: the squared maximum mean discrepancy of two sets of features, unbiased.

The kernel is (x.y / d + 1)^3, that of Binkowski et al. 2018 (arXiv 1801.01401). Sets are cut into
blocks; each block's U-statistic (Gretton et al. 2012, JMLR 13, eq. 3) is unbiased whatever its
size, and blocks share no row, so their spread gives an honest standard error (Zaremba et al. 2013,
arXiv 1307.1954). Draws of one chain are not independent, so blocks share no chain either, and pairs
of one chain, which would pull the mean up, are left out.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tiltflow.evaluation.quality.groups import number_of, numbered, part

BLOCKS = 10


@dataclass(frozen=True)
class KernelDistance:
    """A squared discrepancy; zero in the mean where both sets come from one distribution.

    Attributes:
        value: the mean over the blocks.
        standard_error: from their spread.
        blocks: how many.
    """

    value: float
    standard_error: float
    blocks: int

    @property
    def interval(self) -> tuple[float, float]:
        """95%, by Student's t."""
        wide = float(stats.t.ppf(0.975, self.blocks - 1)) * self.standard_error
        return self.value - wide, self.value + wide

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        low, high = self.interval
        return asdict(self) | {"low": low, "high": high}


def kernel_distance(
    samples: np.ndarray,
    reference: np.ndarray,
    *,
    blocks: int = BLOCKS,
    groups: ArrayLike | None = None,
) -> KernelDistance:
    """The distance of features `samples` `[n, d]` from `reference` `[m, d]`.

    Args:
        samples, reference: features, whose order must not matter: they are cut into blocks.
        blocks: of them, each with at least 2 rows of both; fewer if there are too few chains.
        groups: the chain of each sample, integers `[n]`; None: samples are independent.
    """
    of_rows = numbered(groups, len(samples))
    blocks = min(blocks, number_of(of_rows) // 2)
    ours = [part(of_rows, i, blocks) for i in range(blocks)]
    found = [
        squared_mmd(samples[rows], reference[i::blocks], of_rows[rows])
        for i, rows in enumerate(ours)
    ]
    error = float(np.std(found, ddof=1)) / np.sqrt(blocks)
    return KernelDistance(float(np.mean(found)), float(error), blocks)


def squared_mmd(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> float:
    """The unbiased estimate from features `x` `[n, d]` and `y` `[m, d]`; may be negative.

    `groups` `[n]` are the chains of `x`, at least 2; None: its rows are independent.
    """
    within = _mean_of_pairs(x, np.arange(len(x)) if groups is None else groups)
    return within + _mean_of_pairs(y, np.arange(len(y))) - 2 * float(_kernel(x, y).mean())


def _mean_of_pairs(x: np.ndarray, groups: np.ndarray) -> float:
    """The kernel's mean over pairs of rows of different groups."""
    return float(_kernel(x, x)[groups[:, None] != groups].mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
