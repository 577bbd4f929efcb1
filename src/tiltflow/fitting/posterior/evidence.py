"""log Z of a density, bridged between exact draws of the proposal and draws of the chains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit

from tiltflow.normalizer import LogZ, from_values

STATED = 1.25
"""Errors are stated by so much larger than they look: a run ends when its error looks small enough,
oftener where it looks too small. Over nineteen runs of `benchmarks/posterior.py` the root mean
square of what log Z was off by, over the error as it looked, was 1.2."""
BOUNDED = 3.0
"""Stated errors from the estimate to either bound, at least: were they those of a 95% interval, the
truth would be outside of them in one run of twenty."""
NOTHING = 300.0  # nats below the smallest f of the chains that stand for a density of 0


def bridged(f_q: np.ndarray, f_p: np.ndarray, reference: float) -> LogZ:
    """log Z from f, the log of the density over the proposal's.

    Args:
        f_q: at exact draws of the proposal, `[n]`; -inf where the density is 0.
        f_p: at draws of the chains, `[chains, draws]`; finite.
        reference: is added: what the density was taken over.
    """
    floor = float(np.min(f_p)) - NOTHING
    found = from_values(np.maximum(f_q, floor), f_p)
    moved = {name: getattr(found, name) + reference for name in ("mean", "lower", "upper")}
    moved |= {
        name: reference + found.mean + STATED * (getattr(found, name) - found.mean)
        for name in ("low", "high")
    }
    error = STATED * found.standard_error
    moved["lower"] = min(moved["lower"], moved["low"], moved["mean"] - BOUNDED * error)
    moved["upper"] = max(moved["upper"], moved["high"], moved["mean"] + BOUNDED * error)
    return replace(found, **moved, standard_error=error)


def halves_apart(f_q: np.ndarray, f_p: np.ndarray) -> float:
    """How far log Z by the first and the second half of the chains' draws are apart.

    In standard errors of the difference, in which the draws of the proposal, common to both,
    cancel: with t of the bridge, each half gives a mean of 1 / (1 + exp t), chain by chain.
    """
    floor = float(np.min(f_p)) - NOTHING
    c = from_values(np.maximum(f_q, floor), f_p).mean
    terms = expit(c - f_p)
    half = terms.shape[1] // 2
    change = terms[:, -half:].mean(axis=1) - terms[:, :half].mean(axis=1)
    error = float(change.std(ddof=1)) / len(change) ** 0.5
    return abs(float(change.mean())) / max(error, 1e-12)


def effective_share(f_q: np.ndarray) -> float:
    """The share of the proposal's draws that is effective, weighted by exp f."""
    weights = np.exp(f_q - f_q.max())
    return float(weights.sum() ** 2 / np.sum(weights**2)) / len(f_q)
