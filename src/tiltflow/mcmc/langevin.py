"""Unadjusted Langevin: MALA without its Metropolis test, and so *biased*.

It leaves the target invariant only in the limit of small steps: kept because much of the
literature on energy-based models trains with it. `is_biased` says so to whoever judges a run.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc import hmc
from tiltflow.mcmc.batch import all_finite, choose
from tiltflow.mcmc.kernel import Info, Kernel, LogDensity, Tuning
from tiltflow.mcmc.trajectory import HMCState


class UnadjustedLangevin(Kernel):
    """u + step_size^2 / 2 * gradient + step_size * noise, always taken where finite. BIASED.

    Attributes:
        target: None: there is no acceptance to aim at.
    """

    target: float | None = None

    @property
    def is_biased(self) -> bool:
        """Always."""
        return True

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> HMCState:
        """The state at `position`, at the cost of one gradient."""
        return hmc.init(position, hmc.value_and_gradient(log_density))

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: HMCState, tuning: Tuning
    ) -> tuple[HMCState, Info]:
        """One move of every chain; a chain whose move is not finite stays where it is."""
        size = jnp.asarray(tuning.step_size, state.position.dtype)
        noise = jax.random.normal(key, state.position.shape, size.dtype)
        position = state.position + 0.5 * size**2 * state.gradient + size * noise
        new = hmc.init(position, hmc.value_and_gradient(log_density))
        is_moved = all_finite(new)
        kept = choose(is_moved, new, state)
        return kept, Info(
            acceptance_rate=is_moved.astype(kept.log_density.dtype),
            is_accepted=is_moved,
            is_divergent=~is_moved,
            energy=-kept.log_density,
            gradients=jnp.asarray(1),
        )
