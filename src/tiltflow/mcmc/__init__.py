"""Markov chains on any batched log-density, `[chains, *event]` to `[chains]`."""

from tiltflow.mcmc.hmc import HMCInfo, HMCState, init, step, value_and_gradient
from tiltflow.mcmc.run import Draws, sample

__all__ = ["Draws", "HMCInfo", "HMCState", "init", "sample", "step", "value_and_gradient"]
