"""The contract of a kernel: a whole batch of chains moved at once, the target left invariant.

A kernel is a module: what its program depends on (how many proposals, which parts) is static,
numbers are arrays. What warm-up changes is handed in as `Tuning`, traced, so that tuning again
never compiles again. A state is any NamedTuple of arrays that starts with `position`,
`[chains, *event]`, and `log_density`, `[chains]`; what else it carries is the kernel's business.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tiltflow.mcmc.length import FixedLength, LengthRule

LogDensity = Callable[[Float[Array, "chains *event"]], Float[Array, " chains"]]


class Tuning(NamedTuple):
    """What warm-up adapts, common to all chains; scalars.

    Attributes:
        step_size: of an integrator's step, or the scale of a proposal.
        length: of a trajectory, in units of time (a number of steps is length / step_size).
    """

    step_size: Float[Array, ""]
    length: Float[Array, ""]


class Info(NamedTuple):
    """What a transition did, chain by chain.

    Attributes:
        acceptance_rate: the Metropolis probability, `[chains]`; 0 where divergent. What warm-up
            adapts the step size to.
        is_accepted: whether the chain moved, `[chains]`.
        is_divergent: `[chains]`.
        energy: minus the log-density of the extended state that was kept (with momentum, where
            there is one), `[chains]`, in nats: the series E-BFMI is computed from.
        gradients: evaluations of the log-density, with its gradient or without, that each chain
            spent; a scalar.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]
    energy: Float[Array, " chains"]
    gradients: Int[Array, ""]


class Kernel(eqx.Module):
    """One way to move chains.

    Attributes:
        target: the mean acceptance that warm-up aims at; None if there is no step to adapt.
    """

    target: eqx.AbstractVar[float | None]

    @property
    def is_biased(self) -> bool:
        """Whether the target is *not* left invariant, so that a verdict has to say so."""
        return False

    @abc.abstractmethod
    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> Any:
        """The state at `position`."""

    @abc.abstractmethod
    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: Any, tuning: Tuning
    ) -> tuple[Any, Info]:
        """One transition of every chain."""

    def record(self, state: Any) -> dict[str, Array]:
        """What is recorded of a state beside its position: arrays `[chains, ...]` by name."""
        return {}

    @property
    def length_rule(self) -> LengthRule:
        """How warm-up adapts `Tuning.length`; it does not, unless a kernel says how."""
        return FixedLength()
