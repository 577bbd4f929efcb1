"""A state without a gradient, and the evaluation of a batched log-density, checked.

Kernels that need no gradient carry a `Point`; `hmc.HMCState` is a point with its gradient.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from tiltflow.errors import InputError
from tiltflow.mcmc.batch import half_square
from tiltflow.mcmc.kernel import LogDensity


class Point(NamedTuple):
    """Where the chains are.

    Attributes:
        position: `[chains, *event]`.
        log_density: `[chains]`, in nats, up to the unknown constant.
    """

    position: Float[Array, "chains *event"]
    log_density: Float[Array, " chains"]


def evaluate(log_density: LogDensity, position: Float[Array, "chains *event"]) -> Point:
    """The point at `position`, at the cost of one evaluation without gradient.

    Raises:
        InputError: `position` is not `[chains, *event]`, or the log-density not `[chains]`.
    """
    check_position(position)
    value = log_density(position)
    check_value(value, position)
    return Point(position, value)


def tilt_of(point: Point) -> Float[Array, " chains"]:
    """f = log-density + |u|^2 / 2: what is left of it beside the N(0, I) of the backbone."""
    return point.log_density + half_square(point.position)


def check_position(position: Array) -> None:
    """Raises InputError unless `position` is `[chains, *event]`."""
    if position.ndim < 2:
        raise InputError(
            f"positions have shape {position.shape}; expected [chains, *event]: a single chain "
            f"is position[None], a scalar event position[:, None]"
        )


def check_value(value: Array, position: Array) -> None:
    """Raises InputError unless `value` is one number for each row of `position`."""
    if jnp.shape(value) != position.shape[:1]:
        raise InputError(
            f"the log-density returned shape {jnp.shape(value)} for positions of shape "
            f"{position.shape}; expected {position.shape[:1]}, one number a chain: wrap a "
            f"one-example function in jax.vmap"
        )
