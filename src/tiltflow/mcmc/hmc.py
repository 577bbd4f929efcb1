"""Hamiltonian Monte Carlo with a unit mass matrix, all chains at once.

A log-density is a *batched* function, `[chains, *event]` to `[chains]`, whose rows do not depend
on one another (`jax.vmap` of a one-example function is one). So a convolutional model may batch
as it likes, and one vector-Jacobian product gives the value and the gradient of every chain.

A leapfrog step costs that one product: the state carries value and gradient, and neighbouring
half kicks are merged. Reference: Neal 2011, "MCMC using Hamiltonian dynamics"
(arXiv 1206.1901), section 3.2 and eqs. (2.28) to (2.30).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tiltflow.errors import InputError

LogDensity = Callable[[Float[Array, "chains *event"]], Float[Array, " chains"]]
ValueAndGradient = Callable[
    [Float[Array, "chains *event"]],
    tuple[Float[Array, " chains"], Float[Array, "chains *event"]],
]

LARGEST_ENERGY_ERROR = 1000.0
"""A trajectory that gains more energy than this, in nats, is divergent (Stan's limit)."""


class HMCState(NamedTuple):
    """Where the chains are.

    Attributes:
        position: `[chains, *event]`.
        log_density: `[chains]`, in nats, up to the unknown constant.
        gradient: of the log-density, `[chains, *event]`.
    """

    position: Float[Array, "chains *event"]
    log_density: Float[Array, " chains"]
    gradient: Float[Array, "chains *event"]


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
        if position.ndim < 2:
            raise InputError(
                f"positions have shape {position.shape}; expected [chains, *event]: a single chain "
                f"is position[None], a scalar event position[:, None]"
            )
        value, pull_back = jax.vjp(log_density, position)
        if jnp.shape(value) != position.shape[:1]:
            raise InputError(
                f"the log-density returned shape {jnp.shape(value)} for positions of shape "
                f"{position.shape}; expected {position.shape[:1]}, one number a chain: wrap a "
                f"one-example function in jax.vmap"
            )
        (gradient,) = pull_back(jnp.ones_like(value))
        return value, gradient

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
    num_leapfrogs: int,
    jitter: Float[Array, ""] | float = 0.2,
) -> tuple[HMCState, HMCInfo]:
    """One transition of every chain: fresh momenta, a trajectory, a Metropolis test.

    A trajectory on which the log-density, its gradient or the position is not finite anywhere, or
    whose end has over 1,000 nats more energy than its start, is rejected and counted as divergent.
    Rejecting it keeps the target invariant: the reversed trajectory visits the same points. A
    state that is finite stays finite.

    Args:
        key: fresh for every transition.
        state: from `init` or the last `step`.
        value_and_grad: from `value_and_gradient`.
        step_size: of the leapfrogs, common to all chains.
        num_leapfrogs: gradients a transition; static, changing it compiles anew.
        jitter: each chain's step size is multiplied by a uniform draw from
            [1 - jitter, 1 + jitter], which breaks the trajectories' resonances.
    """
    momentum_key, jitter_key, accept_key = jax.random.split(key, 3)
    position, dtype = state.position, state.position.dtype
    chains = position.shape[0]
    momentum = jax.random.normal(momentum_key, position.shape, dtype)
    factor = jax.random.uniform(jitter_key, (chains,), dtype, minval=-1.0, maxval=1.0)
    step_sizes = jnp.asarray(step_size * (1.0 + jitter * factor), dtype)

    proposal, new_momentum, is_finite = _leapfrogs(
        state, momentum, value_and_grad, _per_chain(step_sizes, position), num_leapfrogs
    )
    energy_error = (
        _sum_event(0.5 * (new_momentum - momentum) * (new_momentum + momentum))
        - (proposal.log_density - state.log_density)
    )  # fmt: skip
    is_finite &= jnp.isfinite(energy_error)
    is_divergent = ~is_finite | (energy_error > LARGEST_ENERGY_ERROR)
    log_accept = jnp.where(is_divergent, -jnp.inf, jnp.minimum(0.0, -energy_error))
    uniform = jax.random.uniform(accept_key, (chains,), log_accept.dtype)
    is_accepted = jnp.log(uniform) < log_accept

    kept = HMCState(
        *(
            jnp.where(_per_chain(is_accepted, new), new, old)
            for new, old in zip(proposal, state, strict=True)
        )
    )
    start_energy = 0.5 * _sum_event(momentum**2) - state.log_density
    energy = start_energy + jnp.where(is_accepted, energy_error, 0.0)
    return kept, HMCInfo(jnp.exp(log_accept), is_accepted, is_divergent, energy)


def _leapfrogs(
    state: HMCState,
    momentum: Float[Array, "chains *event"],
    value_and_grad: ValueAndGradient,
    step_sizes: Float[Array, "chains *ones"],
    count: int,
) -> tuple[HMCState, Float[Array, "chains *event"], Bool[Array, " chains"]]:
    """The end of a trajectory, its momentum, and whether every point of it was finite.

    Only the log-density has to be looked at on the way: what is not finite in a gradient stays in
    the momentum, and what is not finite in the momentum in the position.
    """

    def leapfrog(index, carry):
        position, momentum, _, _, is_finite = carry
        position = position + step_sizes * momentum
        value, gradient = value_and_grad(position)
        kick = jnp.where(index == count - 1, 0.5, 1.0).astype(step_sizes.dtype) * step_sizes
        return (
            position,
            momentum + kick * gradient,
            value,
            gradient,
            is_finite & jnp.isfinite(value),
        )

    momentum = momentum + 0.5 * step_sizes * state.gradient
    carry = (state.position, momentum, state.log_density, state.gradient)
    position, momentum, value, gradient, is_finite = jax.lax.fori_loop(
        0, count, leapfrog, (*carry, jnp.isfinite(state.log_density))
    )
    is_finite &= jnp.isfinite(_sum_event(jnp.abs(momentum))) & _all_event(jnp.isfinite(position))
    return HMCState(position, value, gradient), momentum, is_finite


def _per_chain(value: Array, like: Array) -> Array:
    """`value`, `[chains]`, with as many axes as `like`."""
    return value.reshape(value.shape + (1,) * (like.ndim - 1))


def _sum_event(values: Float[Array, "chains *event"]) -> Float[Array, " chains"]:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def _all_event(values: Bool[Array, "chains *event"]) -> Bool[Array, " chains"]:
    return jnp.all(values, axis=tuple(range(1, values.ndim)))
