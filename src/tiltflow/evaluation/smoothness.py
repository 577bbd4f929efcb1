"""Is the force smooth? Chains follow the gradient of f, and pay for its kinks.

One step of the leapfrog replaces the work that f does along a short line by the mean of its
gradients at both ends. For a smooth f the error falls with the third power of the step; where the
gradient jumps, as behind ReLU, with the second, or the power 3/2 where a step meets many such
places; where f itself jumps, or the gradient is not that of f, with the first (Hairer, Lubich and
Wanner 2006, "Geometric Numerical Integration", section IX.8, for the order of a step).
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.diagnostics.verdict import Check
from tiltflow.parallel.devices import over_devices_once
from tiltflow.tilts import ReadsCoordinates

LINES = 2_048  # at most
STEP = 0.125  # standard deviations of the backbone's draws; the other step is half of it
LEAST_ORDER = 2.5
MANY_KINKS = 1.25  # below it, it is no kinks
CLEAR = 20.0  # times the rounding of f, that an error has to be


def smoothness(tilt: ReadsCoordinates, c: np.ndarray, key: PRNGKeyArray) -> list[Check]:
    """The check on the order of the error of a step along f; none where f is not finite.

    Args:
        tilt: f.
        c: coordinates that the backbone has drawn, `[draws, dim]`.
        key: of the directions.
    """
    c = c[:LINES]
    way = c.std(axis=0) * np.asarray(jr.normal(key, c.shape))
    points = np.stack([c, c + STEP * way, c + 0.5 * STEP * way])
    values, forces = (
        np.asarray(x, np.float64) for x in _forces(tilt, jnp.asarray(points, jnp.float32))
    )
    if not (np.isfinite(values).all() and np.isfinite(forces).all()):
        return []
    f = values[0]
    coarse, fine = (
        np.abs(values[i] - f - 0.5 * step * np.sum((forces[0] + forces[i]) * way, axis=1))
        for i, step in ((1, STEP), (2, 0.5 * STEP))
    )
    rounding = float(np.mean(np.spacing(np.abs(f).astype(np.float32))))
    order = order_of(float(np.mean(coarse)), float(np.mean(fine)), rounding)
    return [
        Check(
            name="order of the energy error of a step",
            value=order,
            limit=LEAST_ORDER,
            ok=order >= LEAST_ORDER,
            part="tilt",
            severity="caution",
            means=f"The energy error of a leapfrog falls with the power {order:.1f} of the step, "
            "where 3 is due: "
            + (
                "the gradient of f jumps, as it does behind ReLU."
                if order > MANY_KINKS
                else "f jumps, or its gradient is not that of f."
            ),
            try_="Build the tilt of smooth functions (softplus or SiLU in place of ReLU, no "
            "rounding, no thresholds), and let JAX make its gradient.",
        )
    ]


def order_of(coarse: float, fine: float, rounding: float) -> float:
    """The power of the step that the error falls with; 3 where it is rounding, or nothing."""
    if fine <= CLEAR * rounding:
        return 3.0
    return float(np.log2(coarse / fine))


@over_devices_once
def _forces(tilt: ReadsCoordinates, c: Array) -> tuple[Array, Array]:
    """f at c [points, lines, dim], and its gradient."""
    return jax.lax.map(jax.vmap(jax.value_and_grad(tilt)), c)
