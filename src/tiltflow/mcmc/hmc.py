"""Hamiltonian Monte Carlo with a unit mass matrix, all chains at once.

A log-density is a *batched* function, `[chains, *event]` to `[chains]`, whose rows do not depend
on one another (`jax.vmap` of a one-example function is one). So a convolutional model may batch
as it likes, and one vector-Jacobian product gives the value and the gradient of every chain.

A leapfrog step costs that one product (`trajectory.py`). These are the functions; the kernel
whose trajectories have an adapted length is `hamiltonian.HMC`. Reference: Neal 2011, "MCMC using
Hamiltonian dynamics" (arXiv 1206.1901), section 3.2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tiltflow.mcmc.kernel import LogDensity
from tiltflow.mcmc.point import check_position, check_value
from tiltflow.mcmc.trajectory import (
    LARGEST_ENERGY_ERROR,
    HMCState,
    ValueAndGradient,
    transition,
)
from tiltflow.parallel.devices import map_in_parts

__all__ = [
    "LARGEST_ENERGY_ERROR",
    "HMCInfo",
    "HMCState",
    "LogDensity",
    "ValueAndGradient",
    "init",
    "step",
    "value_and_gradient",
    "value_and_gradient_in_parts",
]


class HMCInfo(NamedTuple):
    """What a transition did, chain by chain.

    Attributes:
        acceptance_rate: the Metropolis probability, `[chains]`; 0 where divergent.
        is_accepted: `[chains]`.
        is_divergent: `[chains]`.
        energy: `|momentum|^2 / 2 - log_density` of the point that was kept, `[chains]`, in nats:
            the series E-BFMI is computed from.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]
    energy: Float[Array, " chains"]


def value_and_gradient(log_density: LogDensity) -> ValueAndGradient:
    """The function that gives `log_density` and its gradient for all chains, by one product.

    Raises:
        InputError: (the returned function) the positions are not `[chains, *event]`, or
            `log_density` does not return `[chains]`.
    """

    def evaluate(position: Float[Array, "chains *event"]):
        check_position(position)
        value, pull_back = jax.vjp(log_density, position)
        check_value(value, position)
        (gradient,) = pull_back(jnp.ones_like(value))
        return value, gradient

    return evaluate


def value_and_gradient_in_parts(
    log_density: Callable[[Float[Array, "..."]], Float[Array, ""]], at_once: int
) -> ValueAndGradient:
    """The same of a log-density of one position, in memory bounded by `at_once` chains a device."""
    of_one = jax.value_and_grad(log_density)

    def evaluate(position: Float[Array, "chains *event"]):
        check_position(position)
        return map_in_parts(of_one, position, at_once)

    return evaluate


def init(position: Float[Array, "chains *event"], value_and_grad: ValueAndGradient) -> HMCState:
    """The state at `position`, at the cost of one gradient."""
    return HMCState(position, *value_and_grad(position))


def step(
    key: PRNGKeyArray,
    state: HMCState,
    value_and_grad: ValueAndGradient,
    step_size: Float[Array, ""] | float,
    *,
    num_leapfrogs: Int[Array, ""] | int,
    jitter: Float[Array, ""] | float = 0.2,
) -> tuple[HMCState, HMCInfo]:
    """One transition of every chain: fresh momenta, a trajectory, a Metropolis test.

    What is not finite is rejected and counted as divergent (`trajectory.transition`).

    Args:
        key: fresh for every transition.
        state: from `init` or the last `step`.
        value_and_grad: from `value_and_gradient`.
        step_size: of the leapfrogs, common to all chains.
        num_leapfrogs: gradients a transition; it may be traced.
        jitter: each chain's step size is multiplied by a uniform draw from
            [1 - jitter, 1 + jitter], which breaks the trajectories' resonances.
    """
    state, info = transition(
        key, state, value_and_grad, step_size, num_steps=num_leapfrogs, jitter=jitter
    )
    return state, HMCInfo(info.acceptance_rate, info.is_accepted, info.is_divergent, info.energy)
