"""Replica exchange along beta * f: a ladder of replicas from the backbone up to the target.

Replica k of a chain has the density exp(beta_k f(u) - |u|^2 / 2). At beta = 0 that is N(0, I):
its replicas are exact fresh draws. The others move by Gaussian-exact HMC with kicks of beta * f,
whose steps are longer where f is tempered away. Then neighbours exchange their points, even
and odd pairs in turn, with probability min(1, exp((beta_k - beta_l) (f_l - f_k))).
Geyer 1991; the turns are those of Okabe et al. 2001, which Syed et al. 2022 (arXiv 1905.02939)
show to travel faster than random ones. Only values of f are needed: no evaluation is spent on
an exchange.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc import hmc
from tiltflow.mcmc.batch import all_finite, choose, half_square
from tiltflow.mcmc.gaussian_hmc import tempered
from tiltflow.mcmc.kernel import Kernel, LogDensity, Tuning
from tiltflow.mcmc.trajectory import HMCState, TrajectoryInfo, transition

REPLICAS = "replicas"
"""The name under which f at all replicas is recorded."""
DENSER = 1.2  # the power of evenly spread betas


def rising(replicas: int) -> np.ndarray:
    """So many betas from 0 to 1, denser near the backbone, where f varies most."""
    return np.linspace(0.0, 1.0, replicas) ** DENSER


class Ladder(NamedTuple):
    """Where all replicas are; the values are those of the target, at every beta.

    Attributes:
        position: of the replica at beta = 1, `[chains, *event]`.
        log_density: there, `[chains]`.
        replicas: `[chains, replicas, ...]`, from beta = 0 to beta = 1.
        turn: exchanges made so far, `[chains]`, the same number for all.
    """

    position: Float[Array, "chains *event"]
    log_density: Float[Array, " chains"]
    replicas: HMCState
    turn: Int[Array, " chains"]


class ExchangeInfo(NamedTuple):
    """`kernel.Info`, and how the ladder is passed.

    Attributes:
        acceptance_rate, is_accepted, is_divergent, energy: of the trajectory at beta = 1
            (`kernel.Info`); `is_accepted` also where an exchange brought another point.
        gradients: evaluations over the whole ladder, for each chain; a scalar.
        swap_rate: the probability of an exchange between neighbours, whether or not it was their
            turn, `[chains, replicas - 1]`.
    """

    acceptance_rate: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]
    is_divergent: Bool[Array, " chains"]
    energy: Float[Array, " chains"]
    gradients: Int[Array, ""]
    swap_rate: Float[Array, "chains pairs"]


class ReplicaExchange(Kernel):
    """Parallel tempering between the backbone and the target.

    Attributes:
        betas: `[replicas]`, rising from 0 to 1.
        num_leapfrogs: steps of a local trajectory; static.
        jitter: relative half-width of each replica's random step size.
        target: the mean acceptance at beta = 1 that warm-up aims at.
        stretch: at other betas the step is beta ** -stretch times as long: kicks are by beta f, and
            the curvature that limits the step falls with beta.
    """

    betas: Float[Array, " replicas"]
    num_leapfrogs: int = eqx.field(static=True)
    jitter: float | Float[Array, ""]
    target: float | None
    stretch: float | Float[Array, ""]

    def __init__(
        self,
        betas: Sequence[float] | np.ndarray | Array,
        *,
        num_leapfrogs: int = 5,
        jitter: float = 0.2,
        target: float | None = 0.8,
        stretch: float = 0.5,
    ) -> None:
        """A ladder; how many betas there are is static, their values are not.

        Raises:
            InputError: the betas do not rise from 0 to 1.
        """
        given = np.asarray(betas, float)
        ends = given.ndim == 1 and given.size >= 2 and given[0] == 0 and given[-1] == 1
        if not (ends and np.all(np.diff(given) > 0)):
            raise InputError(f"betas are {given.tolist()}; expected numbers rising from 0 to 1")
        self.betas = jnp.asarray(given, float)
        self.num_leapfrogs = num_leapfrogs
        self.jitter = jitter
        self.target = target
        self.stretch = stretch

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> Ladder:
        """All replicas of a chain at its `position`, at the cost of one gradient."""
        state = hmc.init(position, hmc.value_and_gradient(log_density))
        replicas = jax.tree.map(lambda x: jnp.repeat(x[:, None], self.betas.size, axis=1), state)
        return _ladder(replicas, jnp.zeros(position.shape[:1], int))

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: Ladder, tuning: Tuning
    ) -> tuple[Ladder, Any]:
        """Fresh draws at beta = 0, a trajectory at every other beta, one round of exchanges.

        The info is an `ExchangeInfo`.
        """
        draw_key, move_key, swap_key = jax.random.split(key, 3)
        coldest = jax.tree.map(lambda x: x[:, 0], state.replicas)
        fresh = _refresh(draw_key, log_density, coldest)
        moved, info = self._move(move_key, log_density, state.replicas, tuning)
        replicas = jax.tree.map(
            lambda first, rest: jnp.concatenate([first[:, None], rest], axis=1), fresh, moved
        )
        replicas, is_swapped, swap_rate = self._exchange(swap_key, replicas, state.turn[0])
        at_one = jax.tree.map(lambda x: x.reshape(-1, self.betas.size - 1)[:, -1], info[:4])
        acceptance_rate, is_accepted, is_divergent, energy = at_one
        new = _ladder(replicas, state.turn + 1)
        # The momentum of the trajectory stays with beta = 1 when the point is exchanged.
        energy = energy + jnp.where(
            is_swapped[:, -1], moved.log_density[:, -1] - new.log_density, 0
        )
        return new, ExchangeInfo(
            acceptance_rate,
            is_accepted | is_swapped[:, -1],
            is_divergent,
            energy,
            gradients=jnp.asarray(self.num_leapfrogs * (self.betas.size - 1) + 1),
            swap_rate=swap_rate,
        )

    def record(self, state: Ladder) -> dict[str, Array]:
        """f at all replicas, `[chains, replicas]`, from beta = 0 to beta = 1."""
        return {REPLICAS: _tilt(state.replicas)}

    def _move(
        self, key: PRNGKeyArray, log_density: LogDensity, replicas: HMCState, tuning: Tuning
    ) -> tuple[HMCState, TrajectoryInfo]:
        """A trajectory of every replica above beta = 0, in one batch."""
        chains, count = replicas.log_density.shape[0], self.betas.size - 1
        flat = jax.tree.map(lambda x: x[:, 1:].reshape(-1, *x.shape[2:]), replicas)
        beta = jnp.tile(self.betas[1:], chains).astype(flat.position.dtype)
        flat, info = transition(
            key, flat, hmc.value_and_gradient(log_density), tuning.step_size * beta**-self.stretch,
            num_steps=self.num_leapfrogs, jitter=self.jitter, splitting=tempered(beta),
        )  # fmt: skip
        return jax.tree.map(lambda x: x.reshape(chains, count, *x.shape[1:]), flat), info

    def _exchange(
        self, key: PRNGKeyArray, replicas: HMCState, turn: Int[Array, ""]
    ) -> tuple[HMCState, Bool[Array, "chains replicas"], Float[Array, "chains pairs"]]:
        """Exchanges between even pairs (0-1, 2-3, ...) or, on odd turns, the others."""
        f = _tilt(replicas)
        log_ratio = jnp.diff(self.betas) * (f[:, :-1] - f[:, 1:])  # pair k: replicas k, k + 1
        uniform = jax.random.uniform(key, log_ratio.shape, log_ratio.dtype)
        is_turn = jnp.arange(self.betas.size - 1) % 2 == turn % 2
        swaps = (jnp.log(uniform) < log_ratio) & is_turn
        nothing = jnp.zeros_like(swaps[:, :1])
        goes_up = jnp.concatenate([swaps, nothing], axis=1)
        goes_down = jnp.concatenate([nothing, swaps], axis=1)
        source = jnp.arange(self.betas.size) + goes_up.astype(int) - goes_down.astype(int)
        replicas = jax.vmap(lambda state, index: jax.tree.map(lambda x: x[index], state))(
            replicas, source
        )
        return replicas, goes_up | goes_down, jnp.exp(jnp.minimum(log_ratio, 0.0))


def _refresh(key: PRNGKeyArray, log_density: LogDensity, old: HMCState) -> HMCState:
    """An exact draw for each chain; where the log-density there is not finite, the old point."""
    draw = jax.random.normal(key, old.position.shape, old.position.dtype)
    new = hmc.init(draw, hmc.value_and_gradient(log_density))
    return choose(all_finite(new), new, old)


def _tilt(replicas: HMCState) -> Float[Array, "chains replicas"]:
    return replicas.log_density + jax.vmap(half_square)(replicas.position)


def _ladder(replicas: HMCState, turn: Int[Array, " chains"]) -> Ladder:
    return Ladder(replicas.position[:, -1], replicas.log_density[:, -1], replicas, turn)
