"""How two densities compare, by their evidences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm


class BayesFactor(NamedTuple):
    """log Z of the first less that of the second, in nats.

    Attributes:
        mean, low, high: the estimate, and its 95% interval.
        holds: whether both evidences are to be trusted.
        words: all that in a line.
    """

    mean: float
    low: float
    high: float
    holds: bool
    words: str


class Evidence(NamedTuple):
    """What a run says of log Z, and how its verdict ended."""

    log_z: float
    standard_error: float
    holds: bool
    status: str


def bayes_factor(first: Evidence, second: Evidence) -> BayesFactor:
    """The log Bayes factor of two independent runs: their errors add in squares."""
    mean = first.log_z - second.log_z
    half = float(norm.ppf(0.975)) * float(np.hypot(first.standard_error, second.standard_error))
    doubted = [e.status for e in (first, second) if e.status not in ("ok", "draw more")]
    holds = first.holds and second.holds and not doubted
    words = f"log Bayes factor {mean:.3f} ± {half:.3f} (95%)"
    if not holds:
        words += f"; do not trust it: a verdict is {doubted[0] if doubted else 'broken'}"
    return BayesFactor(mean, mean - half, mean + half, holds, words)
