"""HMC behind the contract of a kernel: `hmc.step` with a fixed number of leapfrogs."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc import hmc
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning


class HMC(Kernel):
    """Hamiltonian Monte Carlo (`hmc.py`).

    Attributes:
        num_leapfrogs: gradients a transition; static.
        jitter: relative half-width of the chains' random step sizes.
        target: the mean acceptance that warm-up aims at.
    """

    num_leapfrogs: int = eqx.field(static=True, default=8)
    jitter: float | Float[Array, ""] = 0.2
    target: float | None = 0.8

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]):
        """The state at `position`, at the cost of one gradient."""
        return hmc.init(position, hmc.value_and_gradient(log_density))

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: hmc.HMCState, tuning: Tuning
    ) -> tuple[hmc.HMCState, Info]:
        """One trajectory of every chain; `tuning.length` is not looked at."""
        state, info = hmc.step(
            key, state, hmc.value_and_gradient(log_density), tuning.step_size,
            num_leapfrogs=self.num_leapfrogs, jitter=self.jitter,
        )  # fmt: skip
        return state, Info(*info, gradients=jnp.asarray(self.num_leapfrogs))
