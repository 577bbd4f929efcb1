"""The Metropolis test, with one rule for what is not finite: it is refused and divergent."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Decision(NamedTuple):
    """What the test said, chain by chain.

    Attributes:
        acceptance_rate: min(1, ratio), `[chains]`; 0 where divergent.
        is_accepted: `[chains]`.
        is_divergent: `[chains]`.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]


def decide(
    uniform: Float[Array, " chains"],
    log_ratio: Float[Array, " chains"],
    is_finite: Bool[Array, " chains"],
    *,
    worst: float = -jnp.inf,
) -> Decision:
    """Accept each proposal with probability min(1, exp(log_ratio)).

    Args:
        uniform: fresh draws from [0, 1), `[chains]`.
        log_ratio: of the proposal's weight to the present one's, `[chains]`.
        is_finite: whether everything on the way to the proposal was, `[chains]`.
        worst: a ratio below this counts as divergent.
    """
    is_divergent = ~(is_finite & jnp.isfinite(log_ratio)) | (log_ratio < worst)
    log_accept = jnp.where(is_divergent, -jnp.inf, jnp.minimum(0.0, log_ratio))
    return Decision(jnp.exp(log_accept), jnp.log(uniform) < log_accept, is_divergent)
