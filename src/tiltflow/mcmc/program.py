"""The compiled program of a run: up to `size` transitions a call, of warm-up or of sampling.

How many transitions to make, which to keep, the tuning and whether to adapt it are traced: the
program is compiled once for a kernel's and a log-density's structure. Asking for other numbers of
draws, or for the same model with other weights, does not compile again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc import adaptation
from tiltflow.mcmc.adaptation import Adaptation
from tiltflow.mcmc.kernel import Kernel, LogDensity
from tiltflow.mcmc.length import LengthRule
from tiltflow.mcmc.tempering import REPLICAS
from tiltflow.parallel.devices import over_devices, spread, together

Summary = Callable[
    [Float[Array, "chains *event"], Float[Array, " chains"]], dict[str, Float[Array, " chains"]]
]
POSITIONS, ENERGIES, DIVERGENT = "positions", "energies", "divergent"
RECORDS = (ENERGIES, DIVERGENT, REPLICAS)
"""What kernels tell; no quantities of the target."""


class Moments(NamedTuple):
    """Running mean and variance of every chain, over all its transitions of sampling.

    Attributes:
        transitions: so far; a scalar.
        mean: `[chains, *event]`.
        squares: the sum of squared deviations from the mean, `[chains, *event]`.
    """

    transitions: Int[Array, ""]
    mean: Float[Array, "chains *event"]
    squares: Float[Array, "chains *event"]

    def variance(self) -> Float[Array, "chains *event"]:
        """Of each chain about its own mean; NaN before the second transition."""
        return self.squares / jnp.where(self.transitions > 1, self.transitions - 1, jnp.nan)


class Carry(NamedTuple):
    """What goes from one call to the next, and into a checkpoint.

    Attributes:
        state: the kernel's.
        adaptation: warm-up's memory.
        moments: of the positions, or None if the positions themselves are kept.
    """

    state: Any
    adaptation: Adaptation
    moments: Moments | None


class Tally(NamedTuple):
    """A call in five scalars.

    Attributes:
        acceptance: the sum over transitions of the chains' mean acceptance.
        divergences: over all chains.
        gradients: a chain's evaluations.
        step_size, length: of the last transition.
    """

    acceptance: Array
    divergences: Array
    gradients: Array
    step_size: Array
    length: Array


class Plan(NamedTuple):
    """Which transitions a call makes; traced integers, and one flag.

    Attributes:
        first: the number of the first transition, counted from the start of warm-up.
        count: how many; at most the program's size.
        sampled: how many transitions of sampling there were before.
        thin: one of so many is kept.
        adapting: whether this is warm-up.
    """

    first: Any
    count: Any
    sampled: Any
    thin: Any
    adapting: Any


@over_devices
def start(
    kernel: Kernel,
    log_density: LogDensity,
    position: Float[Array, "chains *event"],
    step_size: Float[Array, ""],
    length: Float[Array, ""],
    rule: LengthRule,
    with_moments: bool,
) -> Carry:
    """The carry at `position`."""
    moments = None
    if with_moments:
        zero = jnp.zeros_like(position)
        moments = Moments(jnp.zeros((), int), zero, zero)
    state = kernel.init(log_density, spread(position))
    return Carry(state, adaptation.init(step_size, length, rule), moments)


@over_devices
def advance(
    kernel: Kernel,
    log_density: LogDensity,
    summary: Summary | None,
    rule: LengthRule,
    key: PRNGKeyArray,
    carry: Carry,
    plan: Plan,
    *,
    size: int,
    keep: bool,
) -> tuple[Carry, dict[str, Float[Array, "size chains ..."]], Tally]:
    """Make the transitions of `plan`; transition t has the key `fold_in(key, t)`.

    Returns the carry, the record by name and the tally. A transition is written to the row of its
    group of `thin`, so that the last of a group stays; rows from the number of groups completed
    on are unspecified. Positions are in the record if `keep`.
    """
    group = plan.sampled // plan.thin

    def record_of(state: Any, energy: Array, is_divergent: Array) -> dict[str, Array]:
        summaries = {} if summary is None else summary(state.position, state.log_density)
        _check_summaries(summaries, state.position.shape[0])
        positions = {POSITIONS: state.position} if keep else {}
        own = kernel.record(state)
        return positions | {ENERGIES: energy, DIVERGENT: is_divergent} | own | summaries

    def transition(index: Array, loop: Any):
        (state, memory, moments), record, tally = loop
        tuning = adaptation.tuning(memory, plan.adapting, rule)
        before = state.position
        state, info = kernel.step(keys[index], log_density, state, tuning)
        state, info = spread(state), together(info)  # sums over chains: in the same order
        memory = adaptation.update(memory, plan.adapting, kernel.target, rule, before, info)
        row = (plan.sampled + index) // plan.thin - group
        record = jax.tree.map(
            lambda rows, new: spread(rows.at[row].set(spread(new)), axis=1),
            record,
            record_of(state, info.energy, info.is_divergent),
        )
        if moments is not None:
            moments = _with(moments, state.position, ~plan.adapting)
        tally = Tally(
            tally.acceptance + jnp.mean(info.acceptance_rate),
            tally.divergences + jnp.sum(info.is_divergent),
            tally.gradients + info.gradients,
            *tuning,
        )
        return Carry(state, memory, moments), record, tally

    # One call of the generator for all keys: one in every transition costs more than its numbers.
    keys = jax.vmap(lambda index: jax.random.fold_in(key, plan.first + index))(jnp.arange(size))
    value = carry.state.log_density
    row = jax.eval_shape(record_of, carry.state, value, jnp.zeros(value.shape, bool))
    record = spread(jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), row), axis=1)
    integer, zero = jnp.zeros((), int), jnp.zeros_like(carry.state.log_density[0])
    tuning = adaptation.tuning(carry.adaptation, plan.adapting, rule)
    tally = Tally(zero, integer, integer, *tuning)
    carry = Carry(spread(carry.state), carry.adaptation, spread(carry.moments))
    return jax.lax.fori_loop(0, plan.count, transition, (carry, record, tally))


def _with(moments: Moments, position: Array, counted: Array) -> Moments:
    """The moments with one more position, if `counted` (Welford 1962)."""
    count = moments.transitions + 1
    gap = position - moments.mean
    mean = moments.mean + gap / count
    new = Moments(count, mean, moments.squares + gap * (position - mean))
    return jax.tree.map(lambda new, old: jnp.where(counted, new, old), new, moments)


def _check_summaries(summaries: Any, chains: int) -> None:
    ok = isinstance(summaries, dict) and all(
        jnp.shape(value) == (chains,) for value in summaries.values()
    )
    if not ok:
        shapes = jax.tree.map(jnp.shape, summaries)
        raise InputError(
            f"the summary returned {shapes}; expected a dictionary of arrays of shape ({chains},), "
            f"one number a chain"
        )
    if taken := {POSITIONS, *RECORDS} & set(summaries):
        raise InputError(f"the summary is called {min(taken)!r}, which is taken: rename it")
