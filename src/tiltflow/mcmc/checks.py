"""What a run must be given; each failure is one clear line."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError
from tiltflow.mcmc.hmc import HMCState


def checked_settings(
    num_draws: int,
    num_warmup: int,
    num_leapfrogs: int,
    target: float,
    jitter: float,
    step_size: float,
    chunk: int,
) -> None:
    """Raises InputError for the first setting of `sample` that is out of range."""
    for name, value, least in (
        ("num_draws", num_draws, 1),
        ("num_warmup", num_warmup, 0),
        ("num_leapfrogs", num_leapfrogs, 1),
        ("chunk", chunk, 1),
    ):
        if not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} is {value!r}; expected a whole number, {least} or more")
    for name, value, ok, expected in (
        ("target", target, 0 < target < 1, "above 0 and below 1"),
        ("jitter", jitter, 0 <= jitter < 1, "from 0 to below 1"),
        ("step_size", step_size, 0 < step_size < math.inf, "above 0 and finite"),
    ):
        if not ok:
            raise InputError(f"{name} is {value!r}; expected a number {expected}")


def checked_position(position: Float[Array, "chains *event"]) -> Float[Array, "chains *event"]:
    """The start as a floating array.

    Raises:
        InputError: it is not `[chains, *event]`, is empty, or holds a number that is not finite.
    """
    position = jnp.asarray(position)
    if position.ndim < 2 or position.size == 0:
        raise InputError(
            f"the start has shape {position.shape}; expected [chains, *event], neither empty: a "
            f"single chain is position[None], a scalar event position[:, None]"
        )
    if not jnp.issubdtype(position.dtype, jnp.floating):
        position = position.astype(float)
    _refuse(~jnp.isfinite(position), "the start is not finite", "start from finite numbers")
    return position


def checked_start(state: HMCState) -> None:
    """Raises InputError where log-density or gradient at the start is not finite."""
    _refuse(
        ~jnp.isfinite(state.log_density),
        "the log-density is not finite at the start",
        "start where the density is positive",
    )
    _refuse(
        ~jnp.isfinite(state.gradient),
        "the gradient is not finite at the start",
        "start elsewhere, or mend the log-density's derivative there",
    )


def _refuse(bad: Array, what: str, remedy: str) -> None:
    """Raises InputError if `bad`, `[chains, ...]`, holds anywhere."""
    count = bad.shape[0]
    chains = np.any(np.asarray(bad).reshape(count, -1), axis=1)
    if chains.any():
        raise InputError(
            f"{what} for some chains: {int(chains.sum())} of {count}, the first is chain "
            f"{int(chains.argmax())}; {remedy}"
        )
