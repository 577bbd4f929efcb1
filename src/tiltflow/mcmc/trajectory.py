"""A Hamiltonian trajectory and its Metropolis test, for any splitting of the Hamiltonian.

A step is a half kick, a drift, a half kick; neighbouring half kicks are merged, so that it costs
one value-and-gradient product. What the kick's force is and how positions drift is the
`Splitting`: plain leapfrogs (Neal 2011, arXiv 1206.1901, eqs. (2.28) to (2.30)) here, the one
that moves exactly under N(0, I) in `gaussian_hmc.py`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tiltflow.mcmc.batch import all_event, choose, per_chain, sum_event
from tiltflow.mcmc.metropolis import decide

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


class TrajectoryInfo(NamedTuple):
    """`kernel.Info`, and what a criterion of the length (`chees.py`) needs besides.

    Attributes:
        acceptance_rate, is_accepted, is_divergent, energy, gradients: as in `kernel.Info`.
        proposal: the end of the trajectory, taken or not, `[chains, *event]`.
        proposal_momentum: the momentum there, `[chains, *event]`.
        time: how long the trajectory was: steps times step size, before jitter; a scalar, or
            `[chains]` where each has a step size of its own.
        longest: the longest time that the kernel would have followed; a scalar.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]
    energy: Float[Array, " chains"]
    gradients: Int[Array, ""]
    proposal: Float[Array, "chains *event"]
    proposal_momentum: Float[Array, "chains *event"]
    time: Float[Array, ""]
    longest: Float[Array, ""]


class Splitting(NamedTuple):
    """How a Hamiltonian is split into drifts and kicks.

    Attributes:
        force: (position, gradient of the log-density) to the rate of change of the momentum in a
            kick.
        drift: (position, momentum, step sizes `[chains, *ones]`) to position and momentum after
            one drift.
        log_target: (position, log-density) to the log of the density that is to be left
            invariant, `[chains]`; the log-density itself but for tempered replicas.
    """

    force: Callable[[Array, Array], Array]
    drift: Callable[[Array, Array, Array], tuple[Array, Array]]
    log_target: Callable[[Array, Array], Array]


LEAPFROG = Splitting(
    force=lambda position, gradient: gradient,
    drift=lambda position, momentum, step: (position + step * momentum, momentum),
    log_target=lambda position, log_density: log_density,
)
"""Straight drifts, kicks by the whole gradient."""


class Trajectory(NamedTuple):
    """The end of a trajectory: the state and momentum there, and whether all of it was finite."""

    end: HMCState
    momentum: Float[Array, "chains *event"]
    is_finite: Bool[Array, " chains"]


def transition(
    key: PRNGKeyArray,
    state: HMCState,
    value_and_grad: ValueAndGradient,
    step_size: Float[Array, "#chains"] | Float[Array, ""] | float,
    *,
    num_steps: Int[Array, ""] | int,
    jitter: Float[Array, ""] | float,
    splitting: Splitting = LEAPFROG,
    longest: Float[Array, ""] | float = jnp.inf,
) -> tuple[HMCState, TrajectoryInfo]:
    """Fresh momenta, a trajectory of `num_steps` steps, a Metropolis test.

    A trajectory on which the log-density, its gradient or the position is not finite anywhere, or
    whose end has over 1,000 nats more energy than its start, is rejected and counted as divergent.
    Rejecting it keeps the target invariant: the reversed trajectory visits the same points. A
    state that is finite stays finite.

    Args:
        key: fresh for every transition.
        state: where the chains are.
        value_and_grad: of the log-density, one product for all chains.
        step_size: common to all chains, or one for each.
        num_steps: of the trajectory, at least 1; it may be traced.
        jitter: each chain's step size is multiplied by a uniform draw from
            [1 - jitter, 1 + jitter].
        splitting: the integrator.
        longest: told in the info.
    """
    position, dtype = state.position, state.position.dtype
    momentum, factor, uniform = _noise(key, position)
    step_sizes = jnp.asarray(step_size * (1.0 + jitter * factor), dtype)

    end, new_momentum, is_finite = follow(
        state, momentum, value_and_grad, per_chain(step_sizes, position), num_steps, splitting
    )
    before = splitting.log_target(position, state.log_density)
    after = splitting.log_target(end.position, end.log_density)
    energy_error = (
        sum_event(0.5 * (new_momentum - momentum) * (new_momentum + momentum)) - (after - before)
    )  # fmt: skip
    decision = decide(uniform, -energy_error, is_finite, worst=-LARGEST_ENERGY_ERROR)
    kept = choose(decision.is_accepted, end, state)
    start_energy = 0.5 * sum_event(momentum**2) - before
    energy = start_energy + jnp.where(decision.is_accepted, energy_error, 0.0)
    return kept, TrajectoryInfo(
        *decision,
        energy=energy,
        gradients=jnp.asarray(num_steps, int),
        proposal=end.position,
        proposal_momentum=new_momentum,
        time=jnp.asarray(num_steps * step_size, dtype),
        longest=jnp.asarray(longest, dtype),
    )


def _noise(
    key: PRNGKeyArray, position: Float[Array, "chains *event"]
) -> tuple[Float[Array, "chains *event"], Float[Array, " chains"], Float[Array, " chains"]]:
    """A transition's normal momenta, draws from (-1, 1) and draws from [0, 1).

    They are cut out of one array of uniform numbers: on a CPU a call of the generator is a loop of
    some hundred small operations, whose cost is not in the numbers where chains are few.
    """
    chains, *event = position.shape
    size, dtype = math.prod(event), position.dtype
    lowest = jnp.nextafter(jnp.array(-1, dtype), jnp.array(0, dtype))
    draws = jax.random.uniform(key, (chains, size + 2), dtype, minval=lowest, maxval=1.0)
    momentum = math.sqrt(2) * jax.scipy.special.erfinv(draws[:, :size])
    return momentum.reshape(position.shape), draws[:, size], 0.5 * (draws[:, size + 1] + 1)


def follow(
    state: HMCState,
    momentum: Float[Array, "chains *event"],
    value_and_grad: ValueAndGradient,
    step_sizes: Float[Array, "chains *ones"],
    count: Int[Array, ""] | int,
    splitting: Splitting = LEAPFROG,
) -> Trajectory:
    """`count` steps from `state`.

    Only the log-density has to be looked at on the way: what is not finite in a gradient stays in
    the momentum, and what is not finite in the momentum in the position.
    """

    def one(index, carry):
        position, momentum, _, _, is_finite = carry
        position, momentum = splitting.drift(position, momentum, step_sizes)
        value, gradient = value_and_grad(position)
        kick = jnp.where(index == count - 1, 0.5, 1.0).astype(step_sizes.dtype) * step_sizes
        return (
            position,
            momentum + kick * splitting.force(position, gradient),
            value,
            gradient,
            is_finite & jnp.isfinite(value),
        )

    momentum = momentum + 0.5 * step_sizes * splitting.force(state.position, state.gradient)
    carry = (state.position, momentum, state.log_density, state.gradient)
    position, momentum, value, gradient, is_finite = jax.lax.fori_loop(
        0, count, one, (*carry, jnp.isfinite(state.log_density))
    )
    is_finite &= jnp.isfinite(sum_event(jnp.abs(momentum))) & all_event(jnp.isfinite(position))
    return Trajectory(HMCState(position, value, gradient), momentum, is_finite)
