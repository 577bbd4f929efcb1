"""ChEES: the trajectory length that changes the chains' distance from their centre the most.

The criterion is a quarter of the mean of (|u' - E u'|^2 - |u - E u|^2)^2 over starts u and ends
u' of trajectories; its derivative with respect to the length is a product of what all chains
have at hand, so one stochastic gradient step of Adam follows each transition, pooled over chains.
Hoffman, Radul, Sountsov 2021, "An adaptive MCMC scheme for setting trajectory lengths in
Hamiltonian Monte Carlo", eqs. (6) and (8) and algorithm 1, with their constants for Adam.

Start short: on a Gaussian the criterion is periodic, and a start of several turns (8 for N(0, I))
climbs to a longer length, not down to the best.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiltflow.mcmc.batch import all_finite, choose, per_chain, sum_event
from tiltflow.mcmc.trajectory import TrajectoryInfo

RATE = 0.025
"""Adam's step, in units of log length."""
DECAY = 0.95
"""Adam's beta_2; its beta_1 is 0."""
FORGETTING = 0.5
"""How fast the averaged log length forgets early iterates: weights t^-0.5."""
SMALLEST, LARGEST = 1e-4, 1e4
"""No length leaves this interval, whatever the chains do."""


class ChEES(NamedTuple):
    """The adaptation's memory; scalars all.

    Attributes:
        log_length: of the length to try next.
        log_average: of the averaged length.
        second_moment: of the gradient, decaying, not yet corrected for its start at 0.
        updates: so far.
    """

    log_length: Float[Array, ""]
    log_average: Float[Array, ""]
    second_moment: Float[Array, ""]
    updates: Int[Array, ""]


def init(length: Float[Array, ""] | float) -> ChEES:
    """Start at `length`, brought into the allowed interval."""
    log_length = jnp.log(jnp.clip(jnp.asarray(length, float), SMALLEST, LARGEST))
    return ChEES(log_length, log_length, jnp.zeros_like(log_length), jnp.zeros((), int))


def update(
    state: ChEES,
    before: Float[Array, "chains *event"],
    proposal: Float[Array, "chains *event"],
    proposal_momentum: Float[Array, "chains *event"],
    acceptance: Float[Array, " chains"],
    time: Float[Array, ""],
    *,
    longest: Float[Array, ""] | float = LARGEST,
) -> ChEES:
    """One step of Adam up the criterion.

    Chains count by their acceptance: divergent ones, and those with anything not finite, do not.

    Args:
        state: the memory so far.
        before: where the trajectories started.
        proposal: where they ended, taken or not.
        proposal_momentum: the momentum there.
        acceptance: Metropolis probabilities.
        time: how long the trajectories were, common to all chains.
        longest: no length exceeds this: what a kernel with a bounded number of steps can follow.
    """
    gradient = log_length_gradient(before, proposal, proposal_momentum, acceptance, time)
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0).astype(state.log_length.dtype)
    updates = state.updates + 1
    second_moment = DECAY * state.second_moment + (1 - DECAY) * gradient**2
    scale = jnp.sqrt(second_moment / (1 - DECAY**updates))
    move = jnp.where(scale > 0, RATE * gradient / jnp.where(scale > 0, scale, 1.0), 0.0)
    highest = jnp.log(jnp.clip(longest, SMALLEST, LARGEST))
    log_length = jnp.clip(state.log_length + move, jnp.log(SMALLEST), highest)
    log_length = log_length.astype(state.log_length.dtype)
    weight = updates.astype(log_length.dtype) ** -FORGETTING
    log_average = weight * log_length + (1 - weight) * state.log_average
    return ChEES(log_length, log_average, second_moment, updates)


def log_length_gradient(
    before: Float[Array, "chains *event"],
    proposal: Float[Array, "chains *event"],
    proposal_momentum: Float[Array, "chains *event"],
    acceptance: Float[Array, " chains"],
    time: Float[Array, ""],
) -> Float[Array, ""]:
    """The criterion's derivative with respect to log length, eq. (8), averaged by acceptance."""
    counts = all_finite((before, proposal, proposal_momentum, acceptance)) & (acceptance > 0)
    zero = jnp.zeros_like(before)
    weight = jnp.where(counts, acceptance, 0.0)
    start, end, momentum = (choose(counts, x, zero) for x in (before, proposal, proposal_momentum))
    start = start - _mean(start, counts.astype(weight.dtype))
    end = end - _mean(end, weight)
    change = sum_event(end**2) - sum_event(start**2)
    total = jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    return time * jnp.sum(weight * change * sum_event(end * momentum)) / total


def length(state: ChEES) -> Float[Array, ""]:
    """The length to try next."""
    return jnp.exp(state.log_length)


def final(state: ChEES) -> Float[Array, ""]:
    """The averaged length, to be kept from now on; the first one if there was no update."""
    return jnp.exp(state.log_average)


class ChEESLength(eqx.Module):
    """The criterion as a rule of the length that a warm-up can be given."""

    def init(self, length: Float[Array, ""]) -> ChEES:
        """The memory, at a first length."""
        return init(length)

    def update(
        self, memory: ChEES, before: Float[Array, "chains *event"], info: TrajectoryInfo
    ) -> ChEES:
        """The memory after a transition of `HMC` or `GaussianHMC` that started at `before`."""
        return update(
            memory, before, info.proposal, info.proposal_momentum, info.acceptance_rate,
            info.time, longest=info.longest,
        )  # fmt: skip

    def length(self, memory: ChEES) -> Float[Array, ""]:
        """The length to try next."""
        return length(memory)

    def final(self, memory: ChEES) -> Float[Array, ""]:
        """The length to keep once warm-up is over."""
        return final(memory)


def _mean(
    values: Float[Array, "chains *event"], weight: Float[Array, " chains"]
) -> Float[Array, " *event"]:
    total = jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    return jnp.sum(per_chain(weight, values) * values, axis=0) / total
