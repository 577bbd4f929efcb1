"""Chains in the latent space of a proposal: HMC inside a mode, jumps between modes.

Without a gradient, elliptical slice moves stand for HMC (`free_moves.py`), and there is no flux.

In the coordinates z = g^-1(y) the density is pi(z) = p(g(z)) |det J_g(z)|, the neural transport of
Hoffman et al. 2019 (arXiv 1903.03704). A transition is a trajectory there, and then a jump to one
of some fresh draws of the proposal, by weights p / q (`jumps.py`). Both leave p invariant. The
draws are scored beforehand, many at a time.

After each trajectory the gradient of log pi is at hand, and with it means that should be 0
(`flux.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import CouplingFlow
from tiltflow.fitting.posterior import free_moves, trajectory
from tiltflow.fitting.posterior.compiled import compiled
from tiltflow.fitting.posterior.evidence import effective_share
from tiltflow.fitting.posterior.flux import Middle
from tiltflow.fitting.posterior.jumps import landing
from tiltflow.fitting.posterior.proposal import SIZES, Proposal, pushed
from tiltflow.fitting.posterior.tailed import TailedDensity
from tiltflow.fitting.posterior.target import Target
from tiltflow.fitting.posterior.tempering import scattered

ACCEPTED = 0.8
POOLED = 2**17  # draws that competed in jumps and are kept, about
GOOD_ENOUGH, SELDOM = 0.3, 2  # effective share of a proposal at which jumps do most, and moves then


class Rows(NamedTuple):
    """Points of a latent space: z and y `[..., dim]`, f and the target's log-density `[...]`."""

    z: Array
    y: Array
    f: Array
    value: Array


class Chance(NamedTuple):
    """The random numbers of a block: a program that made them would take longer to compile.

    Attributes:
        momentum: standard normal, `[block, chains, dim]`.
        stretch: factors of step sizes, `[block, chains]`.
        whole: where these are not shortened, `[block, chains]`.
        uniform: of Metropolis tests, `[block, chains]`.
        gumbel: Gumbel's, one for each that competes in a jump, `[block, chains, 1 + jumps_to]`.
    """

    momentum: Array
    stretch: Array
    whole: Array
    uniform: Array
    gumbel: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, shape: tuple[int, int, int], dim: int) -> Chance:
        """For so many transitions, chains and draws that compete."""
        *both, jumps_to = shape
        stretch, whole = scattered(rng.random((2, *both)))
        stretch = stretch * (1 + trajectory.JITTER * rng.uniform(-1, 1, both))
        return cls(
            jnp.asarray(rng.standard_normal((*both, dim)), jnp.float32),
            jnp.asarray(stretch, jnp.float32),
            jnp.asarray(whole),
            jnp.asarray(rng.random(both), jnp.float32),
            jnp.asarray(rng.gumbel(size=(*both, 1 + jumps_to)), jnp.float32),
        )


class Block(NamedTuple):
    """What chains have drawn in one go.

    Attributes:
        z, y: `[chains, draws, dim]`.
        f: the log of the density over the proposal's, `[chains, draws]`.
        value: the log-density, `[chains, draws]`.
        flux: means over draws of what `flux.py` has to be 0, `[chains, dim]`.
        chances: of each trajectory, from the draw before, to be accepted, `[chains, draws]`.
        told: acceptance, share of divergent trajectories, share of jumps made, `[3]`.
        pool_z, pool_y, pool_f: exact draws of the proposal that competed in jumps, `[n, dim]` twice
            and `[n]`; none once there are `POOLED` of them.
    """

    z: np.ndarray
    y: np.ndarray
    f: np.ndarray
    value: np.ndarray
    flux: np.ndarray
    chances: np.ndarray
    told: np.ndarray
    pool_z: np.ndarray
    pool_y: np.ndarray
    pool_f: np.ndarray


@dataclass
class Chains:
    """Where chains are, and what they have drawn under one proposal.

    Attributes:
        proposal: whose latent space they are in.
        z: `[chains, dim]`.
        leapfrogs: of a trajectory; tries of a move without gradient.
        jumps_to: draws that compete in a jump.
        block: transitions of one call.
        step: of their trajectories.
        every: transitions of which one has a move, the others but a jump, without a gradient.
        kept: what they have drawn.
    """

    proposal: Proposal
    z: np.ndarray
    leapfrogs: int
    jumps_to: int
    block: int
    step: float = 0.3
    every: int = 1
    kept: list[Block] = field(default_factory=list)

    @cached_property
    def _programs(self) -> tuple[TailedDensity, Middle, Array]:
        """What programs get of the proposal beside its flow: the mixture, its middle, `within`."""
        base, within = self.proposal.base, self.proposal.within
        room = max(SIZES)
        middle = Middle.of(base, within, room)
        return base.compiled(room + 1), middle, jnp.asarray(within, jnp.float32)

    @property
    def cost(self) -> int:
        """Evaluations of a block."""
        moves = -(-self.block // self.every)
        return len(self.z) * (moves * (self.leapfrogs + 1) + self.block * self.jumps_to)

    def advance(
        self, target: Target, rng: np.random.Generator, key: PRNGKeyArray, *, warming: bool
    ) -> None:
        """One block; if `warming`, the step is adapted and nothing is kept."""
        chains, dim = self.z.shape
        shape = self.block, chains, self.jumps_to
        pool = self.proposal.scored(target, rng, int(np.prod(shape)))
        some = len(pool.f) if self.pooled < POOLED else 0
        competed = tuple(x[:some].astype(np.float32) for x in (pool.z, pool.y, pool.f))
        if not target.differentiable:
            if warming:  # not by draws that are kept: the kernel must not depend on them
                self.every = SELDOM if effective_share(pool.f) > GOOD_ENOUGH else 1
            self._advance_freely(
                target, key, pool.z.reshape(*shape, dim), pool.f.reshape(shape), competed, warming
            )
            return
        base, middle, within = self._programs
        rows = Rows(
            *(jnp.asarray(x.reshape(*shape, dim), jnp.float32) for x in (pool.z, pool.y)),
            *(jnp.asarray(x.reshape(shape), jnp.float32) for x in (pool.f, pool.value)),
        )
        with target.scope:
            *drawn, chances, flux, told = (
                np.asarray(x)
                for x in _advanced(
                    target,
                    self.proposal.flow,
                    base,
                    middle,
                    jnp.asarray(self.z, jnp.float32),
                    within,
                    jnp.asarray(self.step, jnp.float32),
                    jnp.asarray(self.leapfrogs, jnp.int32),
                    jnp.asarray(warming),
                    rows,
                    Chance.drawn(rng, shape, dim),
                )
            )
        z, y, f, value = drawn
        self.z, self.step = z[-1], float(told[0])
        if not warming:
            self._keep(z, y, f, value, flux, chances, told[1:], competed)

    def _advance_freely(
        self,
        target: Target,
        key: PRNGKeyArray,
        pool_z: np.ndarray,
        pool_f: np.ndarray,
        competed: tuple[np.ndarray, ...],
        warming: bool,
    ) -> None:
        with target.scope:
            z, y, f, log_det, moved, told = (
                np.asarray(x)
                for x in free_moves.advanced(
                    target,
                    self.proposal.flow,
                    self._programs[0],
                    key,
                    jnp.asarray(self.z, jnp.float32),
                    jnp.asarray(pool_z, jnp.float32),
                    jnp.asarray(pool_f, jnp.float32),
                    self.leapfrogs,
                    jnp.asarray(self.every, jnp.int32),
                )
            )
        self.z = z[-1]
        if not warming:
            told = np.array([np.nanmean(moved), 0.0, float(told)])
            rows = z.reshape(-1, z.shape[-1])
            log_q = self.proposal.base.log_prob(rows).reshape(log_det.shape) - log_det
            self._keep(z, y, f, f + log_q, np.zeros_like(self.z), moved, told, competed)

    def _keep(
        self,
        z: np.ndarray,
        y: np.ndarray,
        f: np.ndarray,
        value: np.ndarray,
        flux: np.ndarray,
        chances: np.ndarray,
        told: np.ndarray,
        competed: tuple[np.ndarray, ...],
    ) -> None:
        """A block, whose arrays have time first, and the draws that competed in it."""
        z, y, f, value = (np.swapaxes(x, 0, 1) for x in (z, y, f, value))
        self.kept.append(Block(z, y, f, value, flux, chances.T, told, *competed))

    @property
    def draws(self) -> int:
        """Of each chain."""
        return self.block * len(self.kept)

    @property
    def pooled(self) -> int:
        """Exact draws of the proposal that are kept."""
        return sum(len(block.pool_f) for block in self.kept)

    def pool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Their z, y `[n, dim]` and f `[n]`."""
        each = [(block.pool_z, block.pool_y, block.pool_f) for block in self.kept]
        z, y, f = (np.concatenate(parts).astype(np.float64) for parts in zip(*each, strict=True))
        return z, y, f

    @property
    def divergent(self) -> float:
        """The share of trajectories that broke off."""
        return float(np.mean([block.told[1] for block in self.kept]))

    def drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """z and y `[chains, draws, dim]`, f and log p `[chains, draws]`."""
        z, y, f, value = (
            np.concatenate([block[place] for block in self.kept], axis=1) for place in range(4)
        )
        return z, y, f.astype(np.float64), value.astype(np.float64)

    def chances(self) -> np.ndarray:
        """Of trajectories to be accepted, `[chains, draws]`."""
        return np.concatenate([block.chances for block in self.kept], axis=1)

    def flux(self) -> np.ndarray:
        """Means by block of what should be 0, `[chains, blocks, dim]`."""
        return np.stack([block.flux for block in self.kept], axis=1).astype(np.float64)


@compiled
def _advanced(
    target: Target,
    flow: CouplingFlow,
    base: TailedDensity,
    middle: Middle,
    z: Float[Array, "chains dim"],
    within: Float[Array, "dim dim"],
    step: Array,
    leapfrogs: Array,
    warming: Array,
    pool: Rows,
    chance: Chance,
) -> tuple[Array, ...]:
    """A block of transitions: what `Rows` says of the point after each, `[block, chains, ...]`.

    Then the chances of trajectories, `[block, chains]`; the means of the flux after trajectories,
    `[chains, dim]`. What is told is the step, and the mean acceptance, divergent share and share
    of jumps made.

    Args:
        target, flow, base, middle, within: the density, and the proposal.
        z, step: where chains are, and the step size.
        leapfrogs: of a trajectory.
        warming: whether the step size is adapted.
        pool: draws of the proposal, `[block, chains, jumps_to, ...]`.
        chance: random numbers.
    """

    def latent(w: Array) -> tuple[Array, tuple[Array, Array]]:
        def one(w: Array) -> tuple[Array, tuple[Array, Array]]:
            y, log_det = pushed(flow, within @ w)
            value = target(y)
            return value + log_det, (y, value)

        return jax.vmap(one)(w)

    nothing = trajectory.nothing_known(latent, z)

    def transition(carry: tuple, given: tuple[Rows, Chance]) -> tuple:
        z, step, flux = carry
        fresh, chance = given
        w = jax.scipy.linalg.solve_triangular(within, z.T, lower=True).T
        moved = trajectory.followed(
            latent, w, nothing, False, chance.momentum, chance.uniform, step * chance.stretch,
            leapfrogs,
        )  # fmt: skip
        accepted = jnp.mean(moved.chance, where=chance.whole)
        new_step = jnp.clip(step * jnp.clip(jnp.exp(accepted - ACCEPTED), 0.5, 1.2), 1e-4, 3.0)
        step = jnp.where(warming, new_step, step)

        w, (density, slope, (y, value)) = moved.position, moved.known
        away, turning = jax.vmap(middle.outward)(w)
        term = turning + away * slope
        flux = flux + jnp.where(jnp.isfinite(term), term, 0.0)  # of all draws: not known
        z = w @ within.T
        here = Rows(z, y, density - jax.vmap(base)(z), value)
        among = Rows(
            *(jnp.concatenate([a[:, None], b], axis=1) for a, b in zip(here, fresh, strict=True))
        )
        winner = landing(here.f, fresh.f, chance.gumbel)
        chosen = Rows(*(rows[jnp.arange(len(z)), winner] for rows in among))
        told = accepted, jnp.mean(moved.is_divergent), jnp.mean(winner > 0)
        told = jnp.stack([jnp.float32(x) for x in told])
        return (chosen.z, step, flux), (*chosen, moved.chance, told)

    start = z, step, jnp.zeros(z.shape, jnp.float32)
    (_, step, flux), (*drawn, chances, told) = jax.lax.scan(transition, start, (pool, chance))
    told = jnp.append(step, jnp.mean(told, axis=0))
    return *drawn, chances, flux / len(pool.f), told
