"""A mixture of kernels: local moves explore a mode, global moves jump between modes.

Each part leaves the target invariant, and which one moves does not depend on where the chains
are, so the mixture does too (Tierney 1994, section 2.4). One choice holds for all chains of a
transition: it costs what the chosen part costs.

The parts share one state. A part without gradient (its state is a `Point`) is handed the point;
where it moved chains and another part needs the gradient, the gradient is evaluated once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc import hmc
from tiltflow.mcmc.batch import all_finite, choose
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning
from tiltflow.mcmc.point import Point
from tiltflow.mcmc.trajectory import HMCState


class MixtureState(NamedTuple):
    """Where the chains are, and what the next transition needs; every array has the chains first.

    Attributes:
        position: `[chains, *event]`.
        log_density: `[chains]`.
        gradient: `[chains, *event]`, or None if no part needs it.
        tuned_rate: the acceptance when the tuned part moved last, `[chains]`.
        turn: transitions made so far, `[chains]`, the same number for all.
    """

    position: Float[Array, "chains *event"]
    log_density: Float[Array, " chains"]
    gradient: Float[Array, "chains *event"] | None
    tuned_rate: Float[Array, " chains"]
    turn: Int[Array, " chains"]

    @property
    def shared(self) -> HMCState | Point:
        """The state that the parts share."""
        if self.gradient is None:
            return Point(self.position, self.log_density)
        return HMCState(self.position, self.log_density, self.gradient)


class MixtureInfo(NamedTuple):
    """`kernel.Info`, and which part moved.

    Attributes:
        acceptance_rate: of the tuned part (the first that has a target) when it moved last,
            `[chains]`, so that warm-up does not adapt a step size to the acceptance of jumps. If
            no part has a target, the rate of the part that moved.
        is_accepted, is_divergent, energy, gradients: of the part that moved (`kernel.Info`).
        part: its index; a scalar.
        is_tuned: whether it is the tuned part, so that warm-up learns nothing from the others.
        part_rate: its acceptance, `[chains]`.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]
    energy: Float[Array, " chains"]
    gradients: Int[Array, ""]
    part: Int[Array, ""]
    is_tuned: Bool[Array, ""]
    part_rate: Float[Array, " chains"]


class Mixture(Kernel):
    """Two or more kernels, one of them at a time.

    Attributes:
        parts: the kernels; all with a step size share `Tuning`.
        weights: the probability of each part in a random scan, `[parts]`; scaled to sum 1.
        cycle: indices of parts, `[any]`, gone through in this order in place of a random scan;
            None: a random scan.
    """

    parts: tuple[Kernel, ...]
    weights: Float[Array, " parts"]
    cycle: Int[Array, " turns"] | None

    def __init__(
        self,
        parts: Sequence[Kernel],
        weights: Sequence[float] | Array | None = None,
        *,
        cycle: Sequence[int] | None = None,
    ) -> None:
        """A random scan with `weights` (equal ones by default), or the fixed `cycle`.

        Raises:
            InputError: fewer than two parts; weights that are not one positive number a part; a
                cycle of other than indices of parts; both weights and a cycle.
        """
        self.parts = tuple(parts)
        count = len(self.parts)
        if count < 2:
            raise InputError(f"the mixture has {count} parts; expected two or more")
        if weights is not None and cycle is not None:
            raise InputError("weights and a cycle are both given; expected one of them")
        given = np.ones(count) if weights is None else np.asarray(weights, float)
        if given.shape != (count,) or not np.all(np.isfinite(given) & (given > 0)):
            raise InputError(f"weights are {weights}; expected {count} positive numbers")
        if cycle is not None and (not cycle or not all(0 <= i < count for i in cycle)):
            raise InputError(f"the cycle is {cycle}; expected indices of parts, 0 to {count - 1}")
        self.weights = jnp.asarray(given / given.sum(), float)
        self.cycle = None if cycle is None else jnp.asarray(cycle)

    @property
    def target(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the tuned part."""
        return None if self._tuned is None else self.parts[self._tuned].target

    @property
    def is_biased(self) -> bool:
        """Whether any part is."""
        return any(part.is_biased for part in self.parts)

    def init(
        self, log_density: LogDensity, position: Float[Array, "chains *event"]
    ) -> MixtureState:
        """The state at `position`, at the cost of one evaluation.

        Raises:
            InputError: a part's state is neither a `Point` nor an `HMCState`.
        """
        kinds = [_state_type(part, log_density, position) for part in self.parts]
        for part, kind in zip(self.parts, kinds, strict=True):
            if kind not in (Point, HMCState):
                raise InputError(
                    f"{type(part).__name__} cannot be part of a mixture: its state is a "
                    f"{kind.__name__}; expected a kernel whose state is a Point or an HMCState"
                )
        shared = self.parts[kinds.index(HMCState) if HMCState in kinds else 0].init(
            log_density, position
        )
        rate = 1.0 if self.target is None else self.target
        return MixtureState(
            position,
            shared.log_density,
            getattr(shared, "gradient", None),
            jnp.full_like(shared.log_density, rate),
            jnp.zeros(position.shape[:1], int),
        )

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: MixtureState, tuning: Tuning
    ) -> tuple[MixtureState, Any]:
        """One transition of every chain by one part; the info is a `MixtureInfo`."""
        choice_key, part_key = jax.random.split(key)
        part = self._choice(choice_key, state.turn[0])
        moves = [self._move(kernel, log_density, state.shared, tuning) for kernel in self.parts]
        shared, info = jax.lax.switch(part, moves, part_key)
        rate = info.acceptance_rate
        is_tuned = jnp.asarray(True) if self._tuned is None else part == self._tuned
        tuned_rate = jnp.where(is_tuned, rate, state.tuned_rate)
        new = MixtureState(
            shared.position,
            shared.log_density,
            getattr(shared, "gradient", None),
            tuned_rate,
            state.turn + 1,
        )
        told = info._replace(acceptance_rate=tuned_rate)
        return new, MixtureInfo(*told, part=part, is_tuned=is_tuned, part_rate=rate)

    @property
    def _tuned(self) -> int | None:
        """The index of the first part that has a target."""
        targets = [part.target is not None for part in self.parts]
        return targets.index(True) if any(targets) else None

    def _choice(self, key: PRNGKeyArray, turn: Int[Array, ""]) -> Int[Array, ""]:
        if self.cycle is not None:
            return self.cycle[turn % self.cycle.size]
        return jax.random.categorical(key, jnp.log(self.weights))

    @staticmethod
    def _move(
        kernel: Kernel, log_density: LogDensity, shared: HMCState | Point, tuning: Tuning
    ) -> Callable[[PRNGKeyArray], tuple[HMCState | Point, Info]]:
        """The transition of `kernel`, from the shared state to the shared state."""
        point = Point(shared.position, shared.log_density)
        shares = _state_type(kernel, log_density, point.position) is type(shared)

        def move(key: PRNGKeyArray) -> tuple[HMCState | Point, Info]:
            new, info = kernel.step(key, log_density, shared if shares else point, tuning)
            info = Info(*(getattr(info, name) for name in Info._fields))
            if isinstance(shared, HMCState) and not shares:
                return with_gradient(log_density, new, shared, info)
            return new, info

        return move


def _state_type(kernel: Kernel, log_density: LogDensity, position: Array) -> type:
    return type(eqx.filter_eval_shape(kernel.init, log_density, position))


def with_gradient(
    log_density: LogDensity, new: Point, old: HMCState, info: Info
) -> tuple[HMCState, Info]:
    """`new` with its gradient; a chain with one that is not finite stays at `old`.

    Refusing such points keeps the target invariant on those where the gradient is finite.
    """
    full = hmc.init(new.position, hmc.value_and_gradient(log_density))
    is_finite = all_finite(full)
    return choose(is_finite & info.is_accepted, full, old), info._replace(
        acceptance_rate=jnp.where(is_finite, info.acceptance_rate, 0.0),
        is_accepted=info.is_accepted & is_finite,
        is_divergent=info.is_divergent | ~is_finite,
        energy=jnp.where(is_finite, info.energy, -old.log_density),
        gradients=info.gradients + 1,
    )
