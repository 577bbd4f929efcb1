"""Warm-up: one step size for all chains, from their pooled acceptance.

Dual averaging, Hoffman & Gelman 2014 ("The No-U-Turn sampler"), section 3.2.1, equations 5 and 6
with the constants given there. The acceptance is the mean over all chains, so that a hundred
chains need a hundredth of the transitions. Divergent trajectories count as 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

GAMMA, DELAY, KAPPA = 0.05, 10.0, 0.75
SMALLEST, LARGEST = 1e-6, 1e3


class DualAveraging(NamedTuple):
    """The state of the adaptation; all scalars.

    Attributes:
        log_step: the step size to try next, its log.
        log_average: of the step sizes so far, weighted towards the last.
        mean_error: running mean of (target - acceptance).
        updates: so far.
        anchor: log step size that is shrunk towards, mu.
    """

    log_step: Float[Array, ""]
    log_average: Float[Array, ""]
    mean_error: Float[Array, ""]
    updates: Float[Array, ""]
    anchor: Float[Array, ""]


def init(step_size: float | Array) -> DualAveraging:
    """Start at `step_size`; the anchor is ten times that, as in the paper."""
    log_step = jnp.log(jnp.asarray(step_size, jnp.float32))
    zero = jnp.zeros(())
    return DualAveraging(log_step, log_step, zero, zero, log_step + jnp.log(10.0))


def update(
    state: DualAveraging, acceptance: Float[Array, ""], target: float | Array
) -> DualAveraging:
    """Take in the mean acceptance of a transition; one that is not finite counts as 0."""
    acceptance = jnp.where(jnp.isfinite(acceptance), acceptance, 0.0)
    count = state.updates + 1
    weight = 1 / (count + DELAY)
    mean_error = (1 - weight) * state.mean_error + weight * (target - acceptance)
    log_step = state.anchor - jnp.sqrt(count) / GAMMA * mean_error
    log_step = jnp.clip(log_step, jnp.log(SMALLEST), jnp.log(LARGEST))
    share = count**-KAPPA
    log_average = share * log_step + (1 - share) * state.log_average
    return DualAveraging(log_step, log_average, mean_error, count, state.anchor)


def step_size(state: DualAveraging) -> Float[Array, ""]:
    """The step size to try next, while adapting."""
    return jnp.exp(state.log_step)


def final(state: DualAveraging) -> Float[Array, ""]:
    """The averaged step size, to sample with."""
    return jnp.exp(state.log_average)
