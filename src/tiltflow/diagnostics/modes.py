"""Travel between modes: labels of the draws, and what chains do with them.

R-hat of coordinates can be near 1 while chains stay in the mode where they started, and a chain
that visits all modes may visit them in the wrong proportions. Labels, from whatever classifier,
show both. A visit begins where a label differs from the one before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist, squareform

from tiltflow.diagnostics.convergence import autocorrelation_time, rhat

RARE = 0.01
"""A mode with a smaller share of the draws, and of the data, is not asked of every chain."""


@dataclass(frozen=True, eq=False)
class Travel:
    """How chains travelled between K modes.

    Attributes:
        share: of all draws in each mode, `[K]`.
        transitions: the chance that the next draw is in mode j if this one is in mode i, `[K, K]`;
            a row of NaN for a mode without draws.
        entries: visits that began, of all chains, `[K]`; chains that start in a mode do not enter.
        between: mean draws from one entry to the next of the same mode, `[K]`; inf without any.
        visitors: the share of chains with a draw in each mode, `[K]`.
        visited_all: the share of chains that visited every mode that is not rare.
        apart: the largest total variation between two chains' shares, in [0, 1].
        pair: those two chains.
        rhat: of the worst mode that is not rare, of its share; inf if chains do not move and do
            not agree, 1 if there is one mode.
        time: the largest autocorrelation time of a mode's indicator, in draws.
    """

    share: np.ndarray
    transitions: np.ndarray
    entries: np.ndarray
    between: np.ndarray
    visitors: np.ndarray
    visited_all: float
    apart: float
    pair: tuple[int, int]
    rhat: float
    time: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite is None."""
        return {name: _plain(value) for name, value in vars(self).items()}


def travel(labels: ArrayLike, modes: int, expected: ArrayLike | None = None) -> Travel:
    """Follow chains through `modes` modes.

    Args:
        labels: integers below `modes`, `[chains, draws]`.
        modes: K.
        expected: the share of each mode in the data, `[K]`: one that is not rare there is asked
            of every chain, whether any chain found it or not. None: the draws decide.
    """
    labels = np.asarray(labels)
    chains, draws = labels.shape
    inside = np.arange(modes)[:, None, None] == labels  # [K, chains, draws]
    share = inside.mean(axis=(1, 2))
    of_chains = inside.mean(axis=2).T  # [chains, K]
    counts = np.zeros((modes, modes))
    np.add.at(counts, (labels[:, :-1].ravel(), labels[:, 1:].ravel()), 1)
    entries = counts.sum(axis=0) - np.diag(counts)
    rare = min(RARE, 0.5 / modes)  # of many modes every one may be rare
    wanted = np.maximum(share, 0 if expected is None else np.asarray(expected)) >= rare
    with np.errstate(invalid="ignore", divide="ignore"):
        transitions = counts / counts.sum(axis=1, keepdims=True)
        between = chains * (draws - 1) / entries
    gaps = 0.5 * squareform(pdist(of_chains, "cityblock"))  # total variation, [chains, chains]
    first, second = np.unravel_index(int(gaps.argmax()), gaps.shape)
    worst_rhat, time = _mixing(np.moveaxis(inside[share >= rare], 0, 2))
    return Travel(
        share=share,
        transitions=transitions,
        entries=entries.astype(int),
        between=between,
        visitors=(of_chains > 0).mean(axis=0),
        visited_all=float((of_chains[:, wanted] > 0).all(axis=1).mean()),
        apart=float(gaps.max()),
        pair=(int(first), int(second)),
        rhat=worst_rhat,
        time=time,
    )


def _mixing(inside: np.ndarray) -> tuple[float, float]:
    """R-hat and autocorrelation time of the worst indicator of `[chains, draws, modes]`."""
    part = inside[..., np.ptp(inside.astype(np.int8), axis=(0, 1)) > 0].astype(float)
    if not part.shape[2]:
        return 1.0, 1.0
    values = rhat(part)
    finite = np.where(np.isfinite(values), values, np.inf)
    return float(finite.max()), float(np.max(autocorrelation_time(part)))


def _plain(values: Any) -> Any:
    """A number or nested lists; None for what is not finite."""
    values = np.asarray(values)
    return np.asarray(np.where(np.isfinite(values), values.astype(object), None)).tolist()
