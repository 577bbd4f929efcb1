"""How the energy error of one leapfrog falls with its step: the order of the integrator, as it is.

Where a log-density is smooth, the error of a step falls as its cube. Where it has kinks (ReLU,
clamps, maxima, absolute values) the error is as large as the step wherever one is crossed, which is
the more likely the longer the step: root mean squares fall as its power 1.5 only, and steps have to
be shorter for the same acceptance (Dinh, Ho, Nguyen 2024, arXiv 2410.22065). A smooth function
whose bends are narrower than the step is no better.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ABOVE_ROUNDING = 10.0

Force = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Latent points `[n, ...]` to log-densities `[n]` and their gradients `[n, ...]`."""


class Order(NamedTuple):
    """How the energy error of one leapfrog falls with its step.

    Attributes:
        order: the power, between the two steps.
        step: the longer one; the other is half of it.
        errors: root mean squares at both, nats.
        known: whether both are above the rounding of the energies.
    """

    order: float
    step: float
    errors: tuple[float, float]
    known: bool


def order_of_error(
    force: Force, u: Float[np.ndarray, "n ..."], step: float, rng: np.random.Generator
) -> Order:
    """The order at `u`, points that the density itself would draw, between `step` and its half."""
    momentum = rng.standard_normal(u.shape).astype(u.dtype)
    value, gradient = force(u)
    errors = []
    for h in (step, step / 2):
        half = momentum + 0.5 * h * gradient
        new_value, new_gradient = force(np.asarray(u + h * half, u.dtype))
        end = (half + 0.5 * h * new_gradient).astype(np.float64)
        kinetic = 0.5 * ((end - momentum) * (end + momentum)).reshape(len(u), -1).sum(axis=1)
        errors.append(kinetic - (new_value.astype(np.float64) - value))
    finite = np.all(np.isfinite(errors), axis=0)
    sizes = [float(np.sqrt(np.mean(e[finite] ** 2))) if finite.any() else np.nan for e in errors]
    rounding = float(np.finfo(u.dtype).eps) * float(np.max(np.abs(value[finite]), initial=1.0))
    known = bool(sizes[1] > ABOVE_ROUNDING * rounding)
    order = float(np.log2(sizes[0] / sizes[1])) if known else np.nan
    return Order(order, step, (sizes[0], sizes[1]), known)
