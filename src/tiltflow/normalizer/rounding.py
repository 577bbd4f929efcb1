"""What the floating-point type of f leaves of log Z.

f is a log-density less another one. If both are of the order of a million, as a log-likelihood of
a million data is, float32 has them in steps of 0.06 nats, which no interval of chance alone knows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.normalizer.estimate import DISTRUST, LogZ

FINE = 1e-3
"""Nats between neighbouring values of f, up to which nothing is said of them."""
COARSE = 0.05
"""Nats, beyond which log Z does not hold."""


def step_of(*values: ArrayLike) -> float:
    """Nats between the largest value of f and its neighbour, in the type that the values have."""
    return max((_step(np.asarray(array)) for array in values), default=0.0)


def _step(array: np.ndarray) -> float:
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    finite = np.isfinite(array)
    return float(np.spacing(np.max(np.abs(array), where=finite, initial=0.0).astype(array.dtype)))


def within_rounding(found: LogZ, step: float) -> LogZ:
    """`found`, with half of a `step` of f on either side; not to be believed if that is coarse."""
    if not step > FINE:
        return found
    half = 0.5 * step
    wider = replace(found, low=found.low - half, high=found.high + half)
    if step <= COARSE:
        return wider
    words = (
        f"{DISTRUST}values of f are so large that their type has them in steps of {step:.2g} nats; "
        f"subtract a constant from the log-density, or set jax_enable_x64."
    )
    return replace(wider, holds=False, words=words)
