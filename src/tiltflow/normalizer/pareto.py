"""The tail of importance weights: Pareto k-hat.

Zhang and Stephens (2009), "A new and efficient estimation method for the generalized Pareto
distribution", Technometrics 51(3); used as in Vehtari et al. (2024), "Pareto smoothed
importance sampling", JMLR 25(72).
"""

from __future__ import annotations

import numpy as np

from tiltflow.normalizer.values import Values


def pareto_k(log_weights: Values) -> float:
    """k-hat of exp(`log_weights`) [n], independent draws; the weights' moments up to 1/k exist.

    0 where the tail has no spread (equal weights), inf where it cannot be fitted: fewer than
    25 draws, or weights so far apart that the smaller ones vanish.
    """
    tail = tail_of(len(log_weights))
    if tail < 5:
        return float("inf")
    ordered = np.sort(log_weights)
    threshold, log_tail = ordered[-tail - 1], ordered[-tail:]
    if log_tail[-1] - threshold < 1e-12:
        return 0.0
    excess = np.exp(log_tail - log_tail[-1]) - np.exp(threshold - log_tail[-1])
    excess = excess[excess > np.finfo(np.float64).tiny]
    if len(excess) < 5:
        return float("inf")
    return _shape(excess)


def tail_of(n: int) -> int:
    """How many of n draws are the tail that k-hat is fitted to."""
    return min(n // 5, int(np.ceil(3.0 * np.sqrt(n))))


def highest_trusted_k(n: int) -> float:
    """The k-hat up to which n draws estimate a mean reliably (Vehtari et al. 2024, eq. 13)."""
    return min(1.0 - 1.0 / np.log10(max(n, 11)), 0.7)


def _shape(excess: Values) -> float:
    """Zhang and Stephens' quasi-Bayesian shape of ascending positive `excess` [m]."""
    m = len(excess)
    grid = 30 + int(np.sqrt(m))
    quartile = excess[int(m / 4 + 0.5) - 1]
    steps = np.arange(1, grid + 1)
    theta = 1.0 / excess[-1] + (1.0 - np.sqrt(grid / (steps - 0.5))) / (3.0 * quartile)
    theta = theta[theta != 0.0]  # where tails have a few values only
    k = np.mean(np.log1p(-theta[:, None] * excess), axis=1)
    profile = m * (np.log(-theta / k) - k - 1.0)
    weights = np.exp(profile - profile.max())
    best = float(np.sum(theta * weights) / np.sum(weights))
    k_best = float(np.mean(np.log1p(-best * excess)))
    # A weak prior towards 1/2, worth ten draws (Vehtari et al. 2024, appendix G).
    return (m * k_best + 10.0 * 0.5) / (m + 10.0)
