"""Dual averaging: the step size that gives the wanted acceptance, all chains pooled.

Nesterov's primal-dual averaging as Hoffman & Gelman 2014 (arXiv 1111.4246) use it, section 3.2,
eq. (6), with their constants. One number is adapted to the mean acceptance of all chains, so that
its noise falls with their number.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SHRINKAGE = 0.05
"""Gamma of eq. (6): how strongly the iterates are drawn to the anchor."""
DELAY = 10.0
"""t_0 of eq. (6): how much the first iterations are damped."""
FORGETTING = 0.75
"""Kappa of eq. (6): how fast the average forgets early iterates."""
ANCHOR = 10.0
"""The iterates are drawn to this many times the first step size: trying large steps is cheap."""
SMALLEST, LARGEST = 1e-5, 1e2
"""No step size leaves this interval, whatever the chains do."""


class DualAveraging(NamedTuple):
    """The adaptation's memory; scalars all.

    Attributes:
        log_step: of the step size to try next (x in eq. (6)).
        log_average: of the averaged step size (x-bar).
        error_sum: of target minus acceptance so far (the sum of H).
        anchor: the log step size that the iterates are drawn to (mu).
        updates: so far (t).
    """

    log_step: Float[Array, ""]
    log_average: Float[Array, ""]
    error_sum: Float[Array, ""]
    anchor: Float[Array, ""]
    updates: Int[Array, ""]


def init(step_size: Float[Array, ""] | float) -> DualAveraging:
    """Start at `step_size`, brought into the allowed interval."""
    log_step = _allowed(jnp.log(jnp.asarray(step_size, float)))
    return DualAveraging(
        log_step=log_step,
        log_average=log_step,
        error_sum=jnp.zeros_like(log_step),
        anchor=log_step + jnp.log(ANCHOR).astype(log_step.dtype),
        updates=jnp.zeros((), int),
    )


def update(
    state: DualAveraging,
    acceptance: Float[Array, " chains"] | Float[Array, ""],
    target: Float[Array, ""] | float,
) -> DualAveraging:
    """One iteration of eq. (6).

    Args:
        state: the memory so far.
        acceptance: Metropolis probabilities of the last transition, one a chain, or their mean;
            one that is not finite counts as 0, as a divergence does.
        target: the mean acceptance that is wanted, in (0, 1).
    """
    acceptance = jnp.mean(jnp.where(jnp.isfinite(acceptance), acceptance, 0.0))
    updates = state.updates + 1
    time = updates.astype(state.log_step.dtype)
    error_sum = (state.error_sum + target - acceptance).astype(state.log_step.dtype)
    log_step = _allowed(state.anchor - jnp.sqrt(time) / (SHRINKAGE * (time + DELAY)) * error_sum)
    weight = time**-FORGETTING
    log_average = weight * log_step + (1.0 - weight) * state.log_average
    return DualAveraging(log_step, log_average, error_sum, state.anchor, updates)


def step_size(state: DualAveraging) -> Float[Array, ""]:
    """The step size to try next."""
    return jnp.exp(state.log_step)


def final(state: DualAveraging) -> Float[Array, ""]:
    """The averaged step size, to be kept from now on; the first one if there was no update."""
    return jnp.exp(state.log_average)


def _allowed(log_step: Float[Array, ""]) -> Float[Array, ""]:
    """`log_step` in the allowed interval; its lower end if it is not a number."""
    lowest, highest = jnp.log(SMALLEST), jnp.log(LARGEST)
    return jnp.clip(jnp.where(jnp.isnan(log_step), lowest, log_step), lowest, highest)
