"""HMC as a kernel: trajectories of an adapted length, common to all chains.

The number of steps is drawn anew for each transition and is the same for all chains, so that none
waits for another: ceil(h * length / step_size) with h uniform on [1 - length_jitter, 1], which
breaks resonances (Hoffman, Radul, Sountsov 2021, "An adaptive MCMC scheme for setting trajectory
lengths in Hamiltonian Monte Carlo", section 3). It is a traced loop count: other lengths and step
sizes do not compile anew. `chees.py` adapts the length.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.mcmc import hmc
from tiltflow.mcmc.chees import ChEESLength
from tiltflow.mcmc.kernel import Kernel, LogDensity, Tuning
from tiltflow.mcmc.length import FixedLength, LengthRule
from tiltflow.mcmc.trajectory import LEAPFROG, HMCState, Splitting, transition


class Hamiltonian(Kernel):
    """What kernels that follow a trajectory share.

    Attributes:
        num_leapfrogs: steps of every trajectory; `Tuning.length` is then ignored. An int is
            static, an array is traced. None: from the length.
        jitter: relative half-width of each chain's random step size.
        length_jitter: a trajectory's length is at least (1 - length_jitter) of the full one.
        most_leapfrogs: a trajectory has no more steps than this, whatever the length; static.
        target: the mean acceptance that warm-up aims at.
    """

    num_leapfrogs: int | Int[Array, ""] | None = None
    jitter: float | Float[Array, ""] = 0.2
    length_jitter: float | Float[Array, ""] = 1.0
    most_leapfrogs: int = eqx.field(static=True, default=512)
    target: float | None = 0.8

    @property
    def length_rule(self) -> LengthRule:
        """ChEES, where the length is looked at."""
        return ChEESLength() if self.num_leapfrogs is None else FixedLength()

    @property
    def splitting(self) -> Splitting:
        """The integrator."""
        return LEAPFROG

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> HMCState:
        """The state at `position`, at the cost of one gradient."""
        return hmc.init(position, hmc.value_and_gradient(log_density))

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: HMCState, tuning: Tuning
    ) -> tuple[HMCState, Any]:
        """One trajectory of every chain; the info is a `trajectory.TrajectoryInfo`.

        With `num_leapfrogs` given, the chains are bit for bit those of `hmc.step`.
        """
        num_steps = self.num_leapfrogs
        if num_steps is None:
            length_key, key = jax.random.split(key)
            num_steps = self._num_steps(length_key, tuning)
        return transition(
            key, state, hmc.value_and_gradient(log_density), tuning.step_size,
            num_steps=num_steps, jitter=self.jitter, splitting=self.splitting,
            longest=self.most_leapfrogs * tuning.step_size,
        )  # fmt: skip

    def _num_steps(self, key: PRNGKeyArray, tuning: Tuning) -> Int[Array, ""]:
        """A random number of steps, from 1 to the most allowed."""
        share = 1.0 - self.length_jitter * jax.random.uniform(key)
        steps = jnp.ceil(share * tuning.length / tuning.step_size)
        return jnp.clip(jnp.nan_to_num(steps, nan=1.0), 1, self.most_leapfrogs).astype(int)


class HMC(Hamiltonian):
    """Hamiltonian Monte Carlo with leapfrogs and a unit mass matrix."""
