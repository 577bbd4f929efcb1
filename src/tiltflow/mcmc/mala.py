"""MALA: a Langevin proposal and a Metropolis test.

The proposal is u + step_size^2 / 2 * gradient + step_size * noise: one leapfrog of HMC, whose
energy error is the log of the ratio of densities times proposals (Neal 2011, arXiv 1206.1901,
section 5.2; Roberts, Tweedie 1996). It aims at the acceptance 0.574 of Roberts, Rosenthal 1998.
"""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc import hmc
from tiltflow.mcmc.kernel import Kernel, LogDensity, Tuning
from tiltflow.mcmc.trajectory import HMCState, transition


class MALA(Kernel):
    """The Metropolis-adjusted Langevin algorithm; a step size is the noise's scale.

    Attributes:
        target: the mean acceptance that warm-up aims at.
    """

    target: float | None = 0.574

    def init(self, log_density: LogDensity, position: Float[Array, "chains *event"]) -> HMCState:
        """The state at `position`, at the cost of one gradient."""
        return hmc.init(position, hmc.value_and_gradient(log_density))

    def step(
        self, key: PRNGKeyArray, log_density: LogDensity, state: HMCState, tuning: Tuning
    ) -> tuple[HMCState, Any]:
        """One proposal for every chain, at the cost of one gradient."""
        return transition(
            key, state, hmc.value_and_gradient(log_density), tuning.step_size,
            num_steps=1, jitter=0.0, longest=tuning.step_size,
        )  # fmt: skip
