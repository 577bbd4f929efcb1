"""Chains that move together are fewer than they seem, and R-hat has no eye for it.

One random key for all of them, or one start, leads chains to the same places: they agree perfectly.
The mean over independent chains varies in time by 1 / chains of what one of them does.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.diagnostics.convergence import ess_mean
from tiltflow.diagnostics.verdict import Check

TWICE, ERRORS = 2.0, 6.0  # the least limit; standard errors of chance


class Alike(NamedTuple):
    """How chains move together.

    Attributes:
        ratio: of the variance in time of the mean over chains, times their number, to that of a
            chain: 1 for independent chains, their number for copies of one.
        limit: of chance.
    """

    ratio: float
    limit: float

    def check(self) -> Check:
        """The check that they move each on its own."""
        return Check(
            name="chains that move together, as many for one",
            value=self.ratio,
            limit=self.limit,
            ok=self.ratio <= self.limit,
            severity="failed",
            means="The chains are not independent of one another: they agree because they do the "
            "same, and count as fewer than they are.",
            try_="Give each chain random numbers and a start of its own.",
        )


def alike(draws: ArrayLike) -> Alike | None:
    """Of `[chains, draws]`, the value of one quantity; None where nothing can be told."""
    x = np.asarray(draws, np.float64)
    chains, number = x.shape
    if chains < 2 or number < 8 or not np.isfinite(x).all():
        return None
    each = float(np.mean(x.var(axis=1)))
    size = float(ess_mean(x)) / chains
    if not (each > 0 and math.isfinite(size)):
        return None
    ratio = chains * float(x.mean(axis=0).var()) / each
    return Alike(ratio, max(TWICE, 1.0 + ERRORS * math.sqrt(2.0 / max(size, 1.0))))


def most_alike(*quantities: ArrayLike) -> Alike | None:
    """The one that is furthest beyond its limit."""
    found = [one for values in quantities if (one := alike(values)) is not None]
    return max(found, key=lambda one: one.ratio / one.limit, default=None)
