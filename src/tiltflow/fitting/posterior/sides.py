"""Shares of parts and tails from two sides: exact draws weighted by p / q, and draws of chains.

Both are draws of p, got in different ways. Where chains have not been in a tail, or not often
enough in a mode, exact draws of the proposal have; log Z of both sides may agree all the same.
"""

from __future__ import annotations

import numpy as np

from tiltflow.normalizer.mean_error import of_chains

TAIL = 0.02  # share of the mass
FAR = 0.01  # and that of a tail in which trajectories are looked at


def farthest(
    weighted: np.ndarray, f_q: np.ndarray, drawn: np.ndarray, more: np.ndarray, marks: np.ndarray
) -> float:
    """The largest difference of a share from both sides, in joint standard errors.

    Looked at are both tails of each coordinate, those of f, and parts.

    Args:
        weighted: rows of exact draws, `[n, dim]`.
        f_q: the log of p over q there, `[n]`; -inf where p is 0.
        drawn: rows of chains' draws, `[chains, draws, dim]`.
        more: the part of each exact draw, `[n]`.
        marks: the part of each chain's draw, `[chains, draws]`.
    """
    weight = np.exp(f_q - f_q.max())
    weight /= weight.sum()
    most = 0.0
    for place in range(weighted.shape[1]):
        column, of_chain = weighted[:, place], drawn[..., place]
        order = np.argsort(column)
        cumulated = np.cumsum(weight[order])
        for level, upper in ((TAIL, False), (1 - TAIL, True)):
            at = column[order[min(np.searchsorted(cumulated, level), len(order) - 1)]]
            inside = (column > at, of_chain > at) if upper else (column < at, of_chain < at)
            most = max(most, _apart(weight, *inside))
    for part in np.unique(marks):
        most = max(most, _apart(weight, more == part, marks == part))
    return most


def _apart(weight: np.ndarray, inside: np.ndarray, of_chains_inside: np.ndarray) -> float:
    """Of one share; a share that one side does not know at all has the error of a few draws."""
    share = float(np.sum(weight[inside]))
    found = of_chains_inside.astype(np.float64)
    mean, error = float(found.mean()), of_chains(found)
    variance = float(np.sum(weight**2 * (inside - share) ** 2))
    size = min(max(error.size, 1.0), float(found.size))
    rare = max(share, mean) * (1 - min(share, mean)) / size
    joint = np.sqrt(variance + max(error.variance, rare) + 1e-12)
    return abs(share - mean) / float(joint)


def tail_acceptance(rows: np.ndarray, chances: np.ndarray) -> float:
    """How likely trajectories from a tail are accepted, over what is usual; of the worst tail.

    Args:
        rows: draws, `[chains, draws, dim]`.
        chances: of the trajectory that ended at each draw, `[chains, draws]`; it began at the one
            before; NaN where there was none.
    """
    before, then = rows[:, :-1].reshape(-1, rows.shape[2]), chances[:, 1:].ravel()
    least = 1.0
    for column in before.T:
        low, high = np.quantile(column, (FAR, 1 - FAR))
        for inside in (column < low, column > high):
            if np.isfinite(then[inside]).any():
                ratio = float(np.nanmean(then[inside])) / max(float(np.nanmean(then)), 1e-12)
                least = min(least, ratio)
    return least
