"""log Z of a density, bridged between exact draws of the proposal and draws of the chains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tiltflow.normalizer import LogZ, from_values

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
    moved = {
        name: getattr(found, name) + reference for name in ("mean", "low", "high", "lower", "upper")
    }
    return replace(found, **moved)


def effective_share(f_q: np.ndarray) -> float:
    """The share of the proposal's draws that is effective, weighted by exp f."""
    weights = np.exp(f_q - f_q.max())
    return float(weights.sum() ** 2 / np.sum(weights**2)) / len(f_q)
