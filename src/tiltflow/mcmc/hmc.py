"""Hamiltonian Monte Carlo on a batch of chains, one gradient for each leapfrog.

Neal 2011, "MCMC using Hamiltonian dynamics", section 5.2 and 5.4.2.2 (jittered step sizes), with
unit mass. Value and gradient come from one call for the whole batch, and the state carries them
from transition to transition.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

LARGEST_ENERGY_ERROR = 1000.0  # beyond it a trajectory counts as divergent, as in Stan
ValueAndGrad = Callable[[Float[Array, "chains ..."]], tuple[Float[Array, " chains"], Array]]


class HMCState(NamedTuple):
    """Where the chains are.

    Attributes:
        position: `[chains, *event]`.
        log_density: `[chains]`, at the position, up to a constant.
        gradient: `[chains, *event]`, of the log-density.
    """

    position: Float[Array, "chains ..."]
    log_density: Float[Array, " chains"]
    gradient: Float[Array, "chains ..."]


class HMCInfo(NamedTuple):
    """What a transition did; all `[chains]`.

    Attributes:
        acceptance_rate: Metropolis probability, 0 for divergent trajectories.
        is_accepted: whether the proposal was taken.
        is_divergent: whether an energy was not finite, or off by more than 1,000.
        energy: Hamiltonian before the trajectory, with its fresh momentum.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]
    energy: Float[Array, " chains"]


def init(position: Float[Array, "chains ..."], value_and_grad: ValueAndGrad) -> HMCState:
    """The state at `position`; costs one gradient."""
    return HMCState(position, *value_and_grad(position))


def step(
    key: PRNGKeyArray,
    state: HMCState,
    value_and_grad: ValueAndGrad,
    step_size: Float[Array, ""],
    *,
    num_leapfrogs: int,
    jitter: float | Array = 0.2,
) -> tuple[HMCState, HMCInfo]:
    """One transition of every chain, leaving the target invariant.

    Args:
        key: for momenta, step sizes and acceptance.
        state: from `init` or the last `step`.
        value_and_grad: log-density and gradient of a batch.
        step_size: common; each chain takes its own, uniform within a share `jitter` of it.
        num_leapfrogs: gradients of the transition.
        jitter: in [0, 1).
    """
    momentum_key, jitter_key, accept_key = jr.split(key, 3)
    position, log_density, gradient = state
    chains = len(log_density)
    momentum = jr.normal(momentum_key, position.shape, position.dtype)
    factor = jr.uniform(jitter_key, (chains,), minval=1 - jitter, maxval=1 + jitter)
    steps = _wide(step_size * factor, position)

    def leapfrog(i: Array, carry: tuple) -> tuple:
        position, momentum, log_density, gradient, finite = carry
        position = position + steps * momentum
        log_density, gradient = value_and_grad(position)
        kick = jnp.where(i == num_leapfrogs - 1, 0.5, 1.0)
        momentum = momentum + kick * steps * gradient
        return position, momentum, log_density, gradient, finite & jnp.isfinite(log_density)

    start = (
        position,
        momentum + 0.5 * steps * gradient,
        log_density,
        gradient,
        jnp.ones(chains, bool),
    )
    proposal, end_momentum, end_log_density, end_gradient, finite = jax.lax.fori_loop(
        0, num_leapfrogs, leapfrog, start
    )
    energy = _kinetic(momentum) - log_density
    error = energy - (_kinetic(end_momentum) - end_log_density)  # log-acceptance
    # A gradient that is not finite shows in the kinetic energy, so in the error.
    good = finite & jnp.isfinite(error) & (error > -LARGEST_ENERGY_ERROR)
    probability = jnp.where(good, jnp.exp(jnp.minimum(jnp.where(good, error, 0.0), 0.0)), 0.0)
    accepted = jr.uniform(accept_key, (chains,)) < probability
    new = HMCState(
        jnp.where(_wide(accepted, position), proposal, position),
        jnp.where(accepted, end_log_density, log_density),
        jnp.where(_wide(accepted, position), end_gradient, gradient),
    )
    return new, HMCInfo(probability, accepted, ~good, energy)


def _kinetic(momentum: Array) -> Array:
    """|p|^2 / 2 of each chain."""
    return 0.5 * jnp.sum(momentum.reshape(len(momentum), -1) ** 2, axis=1)


def _wide(values: Array, like: Array) -> Array:
    """`[chains]` with axes of size 1 added, to broadcast with `like`."""
    return values.reshape(-1, *(1 for _ in like.shape[1:]))
