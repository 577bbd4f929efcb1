"""Every rung at once: the multistate Bennett acceptance ratio along beta * f.

Draws of several densities q exp(beta_k f) / Z_k, pooled; with
p_nk = N_k exp(beta_k f_n - F_k) / sum_l N_l exp(beta_l f_n - F_l), the F_k = log Z_k solve

    sum_n p_nk = N_k  for every rung k,   F_0 = 0                                       (a)

Shirts and Chodera (2008), "Statistically optimal analysis of samples from multiple equilibrium
states", J. Chem. Phys. 129, equation 11. With two densities it is Bennett's bridge. (a) is the
gradient of a concave function, and Newton's method finds its top.

The error is that of independent groups of draws (a sandwich), so that draws may depend on one
another within a group in whatever way: along a chain, or through resampling. Draws may have
weights w_n, with which (a) is sum_n w_n p_nk = N_k.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from tiltflow.normalizer.values import Values

MOST_ITERATIONS = 50
CLOSE = 1e-8  # nats
PART = 20_000  # draws at a time


class Rungs(NamedTuple):
    """log Z along a ladder: `[rungs]`, 0 at the first, with its standard errors."""

    log_z: Values
    standard_error: Values
    converged: bool


def mbar(
    betas: Values,
    f: list[Values],
    start: Values,
    *,
    rung_of: Int[np.ndarray, " samples"] | None = None,
    weights: list[Values] | None = None,
) -> Rungs:
    """log Z at each rung, and its error.

    Args:
        betas: [rungs], ascending, the first of them 0.
        f: of each sample, f at its draws, [groups, draws]; draws in groups of the same index may
            depend on one another, whatever their rung, and on no others.
        start: [rungs], a first guess of log Z.
        rung_of: the rung of each sample; None: there is one for each rung, in their order.
        weights: of the draws of each sample, 1 on average, as they may be of ones that are draws
            of their rung only when weighed; None: all are 1.
    """
    groups, rungs = f[0].shape[0], len(betas)
    rung_of = np.arange(rungs) if rung_of is None else rung_of
    weights = [np.ones_like(values) for values in f] if weights is None else weights
    counts = np.zeros(rungs)
    np.add.at(counts, rung_of, [values.size for values in f])
    centre = float(np.median(np.concatenate([values.ravel() for values in f])))
    centred = [values - centre for values in f]
    log_z = np.asarray(start, np.float64) - betas * centre
    shares, curvature = _shares(betas, log_z, counts, centred, weights)
    converged = False
    for _ in range(MOST_ITERATIONS):
        excess = shares.sum(axis=(0, 1)) - counts
        step = np.linalg.lstsq(curvature[1:, 1:], excess[1:], rcond=None)[0]
        largest = float(np.abs(step).max())
        if not np.isfinite(largest):
            break
        log_z[1:] += step * min(1.0, 2.0 / max(largest, 1e-300))
        shares, curvature = _shares(betas, log_z, counts, centred, weights)
        converged = largest < CLOSE
        if converged:
            break
    # Of a sample whose groups weigh differently the mean is a ratio, whose error is this.
    mass = np.stack([w.sum(axis=1) for w in weights], axis=1)
    mean = shares.sum(axis=0) / mass.sum(axis=0)[:, None]
    scores = np.sum(shares - mass[..., None] * mean, axis=1)[:, 1:]
    spread = np.linalg.lstsq(curvature[1:, 1:], scores.T, rcond=None)[0]  # [rungs - 1, groups]
    variance = np.sum((spread - spread.mean(axis=1, keepdims=True)) ** 2, axis=1)
    error = np.sqrt(variance * groups / max(groups - 1, 1))
    return Rungs(log_z + betas * centre, np.concatenate([[0.0], error]), converged)


def _shares(
    betas: Values, log_z: Values, counts: Values, f: list[Values], weights: list[Values]
) -> tuple[Values, Values]:
    """sum_n w_n p_nk of each group and sample, [groups, samples, rungs], and their slopes.

    These are diag(sum_n w_n p_nk) - sum_n w_n p_nk p_nl.
    """
    groups = len(f[0])
    shares = np.zeros((groups, len(f), len(betas)))
    products = np.zeros((len(betas), len(betas)))
    offset = np.log(counts) - log_z
    for sample, (values, w) in enumerate(zip(f, weights, strict=True)):
        size = max(1, PART // groups)
        for first in range(0, values.shape[1], size):
            part = slice(first, first + size)
            exponent = np.multiply.outer(values[:, part], betas) + offset
            p = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            weighed = w[:, part, None] * p
            shares[:, sample] += weighed.sum(axis=1)
            products += weighed.reshape(-1, len(betas)).T @ p.reshape(-1, len(betas))
    return shares, np.diag(shares.sum(axis=(0, 1))) - products
