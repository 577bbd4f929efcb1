"""Every rung at once: the multistate Bennett acceptance ratio along beta * f.

Draws of several densities q exp(beta_k f) / Z_k, pooled; with
p_nk = N_k exp(beta_k f_n - F_k) / sum_l N_l exp(beta_l f_n - F_l), the F_k = log Z_k solve

    sum_n p_nk = N_k  for every rung k,   F_0 = 0                                       (a)

Shirts and Chodera (2008), "Statistically optimal analysis of samples from multiple equilibrium
states", J. Chem. Phys. 129, equation 11. With two densities it is Bennett's bridge. (a) is the
gradient of a concave function, and Newton's method finds its top.

The error is that of independent groups of draws (a sandwich), so that draws may depend on one
another within a group in whatever way: along a chain, or through resampling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tiltflow.normalizer.values import Values

MOST_ITERATIONS = 50
CLOSE = 1e-8  # nats
PART = 20_000  # draws at a time


class Rungs(NamedTuple):
    """log Z along a ladder: `[rungs]`, 0 at the first, with its standard errors."""

    log_z: Values
    standard_error: Values
    converged: bool


def mbar(betas: Values, f: list[Values], start: Values) -> Rungs:
    """log Z at each rung, and its error.

    Args:
        betas: [rungs], ascending, the first of them 0.
        f: for each rung, f at its draws, [groups, draws]; draws in groups of the same index may
            depend on one another, whatever their rung, and on no others.
        start: [rungs], a first guess of log Z.
    """
    groups = f[0].shape[0]
    counts = np.array([values.size for values in f], np.float64)
    centre = float(np.median(np.concatenate([values.ravel() for values in f])))
    by_group = [np.concatenate([rung[g] for rung in f]) - centre for g in range(groups)]
    own = np.array([values.shape[1] for values in f], np.float64)  # of each group
    log_z = np.asarray(start, np.float64) - betas * centre
    shares, curvature = _shares(betas, log_z, counts, by_group)
    converged = False
    for _ in range(MOST_ITERATIONS):
        excess = shares.sum(axis=0) - counts
        step = np.linalg.lstsq(curvature[1:, 1:], excess[1:], rcond=None)[0]
        largest = float(np.abs(step).max())
        if not np.isfinite(largest):
            break
        log_z[1:] += step * min(1.0, 2.0 / max(largest, 1e-300))
        shares, curvature = _shares(betas, log_z, counts, by_group)
        converged = largest < CLOSE
        if converged:
            break
    scores = (shares - own)[:, 1:]
    spread = np.linalg.lstsq(curvature[1:, 1:], scores.T, rcond=None)[0]  # [rungs - 1, groups]
    variance = np.sum((spread - spread.mean(axis=1, keepdims=True)) ** 2, axis=1)
    error = np.sqrt(variance * groups / max(groups - 1, 1))
    return Rungs(log_z + betas * centre, np.concatenate([[0.0], error]), converged)


def _shares(
    betas: Values, log_z: Values, counts: Values, by_group: list[Values]
) -> tuple[Values, Values]:
    """sum_n p_nk of each group, [groups, rungs], and diag(sum_n p_nk) - sum_n p_nk p_nl."""
    shares = np.zeros((len(by_group), len(betas)))
    products = np.zeros((len(betas), len(betas)))
    offset = np.log(counts) - log_z
    for g, values in enumerate(by_group):
        for first in range(0, len(values), PART):
            exponent = np.multiply.outer(values[first : first + PART], betas) + offset
            p = np.exp(exponent - exponent.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            shares[g] += p.sum(axis=0)
            products += p.T @ p
    return shares, np.diag(shares.sum(axis=0)) - products
