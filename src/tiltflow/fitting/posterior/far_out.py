"""Places as high as where draws are, and much farther out than any draw.

A density that is proper falls far out. If ascents from far starts end many spreads away from all
draws, and the density there is what a draw usually has, then a ridge leads there, or a flat, and
how much mass it has is not known: none of the draws can tell, nor particles that stop as draws do.
"""

from __future__ import annotations

import numpy as np

USUAL = 0.02  # quantile of the log-density of draws
TAIL = 0.02  # share of draws on either side that are not counted to the spread


def farthest_high(y: np.ndarray, value: np.ndarray, ends: np.ndarray, height: np.ndarray) -> float:
    """How far out the farthest end of an ascent is that is as high as draws, in their spreads.

    Over the distance of the farthest draw, where that is more than one spread.

    Args:
        y: draws, `[n, dim]`.
        value: the log-density at each, `[n]`.
        ends: of ascents, `[m, dim]`.
        height: the log-density at each, `[m]`.
    """
    low, middle, high = np.quantile(y, (TAIL, 0.5, 1 - TAIL), axis=0)
    spread = np.maximum(0.5 * (high - low), 1e-12)
    as_high = ends[height >= np.quantile(value, USUAL)]
    if not len(as_high):
        return 0.0
    away, drawn = (np.max(np.abs(rows - middle) / spread, axis=1).max() for rows in (as_high, y))
    return float(away / max(drawn, 1.0))
