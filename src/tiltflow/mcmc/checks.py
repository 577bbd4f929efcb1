"""What a run must be given; each failure is one clear line."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.errors import InputError

COUNTS = {"num_draws": 1, "num_warmup": 0, "num_leapfrogs": 1, "chunk": 1, "thin": 1}
"""The settings that are whole numbers, and the least each may be."""

NUMBERS = {
    "target": (lambda value: 0 < value < 1, "above 0 and below 1"),
    "jitter": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "step_size": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "length": (lambda value: 0 < value < math.inf, "above 0 and finite"),
}
"""The other settings: the test that each must pass, and how it is put in words."""


def checked_settings(**settings: float) -> None:
    """Raises InputError for the first setting of a run that is out of range.

    Args:
        settings: any of the names in `COUNTS` and `NUMBERS`.
    """
    for name, value in settings.items():
        if name in COUNTS:
            if not isinstance(value, int | np.integer) or value < COUNTS[name]:
                raise InputError(
                    f"{name} is {value!r}; expected a whole number, {COUNTS[name]} or more"
                )
        else:
            ok, expected = NUMBERS[name]
            if not ok(value):
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


def checked_start(state: Any) -> None:
    """Raises InputError where the log-density, or the gradient if the state has one, is not finite.

    Also raises it for a log-density that is not one number a chain.
    """
    chains = state.position.shape[:1]
    if jnp.shape(state.log_density) != chains:
        raise InputError(
            f"the log-density returned shape {jnp.shape(state.log_density)} for positions of shape "
            f"{state.position.shape}; expected {chains}, one number a chain"
        )
    _refuse(
        ~jnp.isfinite(state.log_density),
        "the log-density is not finite at the start",
        "start where the density is positive, or transform what it is of so that it is positive "
        "everywhere (tiltflow.posterior does, for parameters with bounds)",
    )
    if getattr(state, "gradient", None) is not None:
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
