"""Markov chains on any batched log-density, `[chains, *event]` to `[chains]`."""

from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.hmc import HMCInfo, HMCState, init, step, value_and_gradient
from tiltflow.mcmc.hmc_kernel import HMC
from tiltflow.mcmc.kernel import Info, Kernel, Tuning
from tiltflow.mcmc.news import News
from tiltflow.mcmc.run import sample
from tiltflow.mcmc.stopping import Until

__all__ = [
    "HMC",
    "Draws",
    "HMCInfo",
    "HMCState",
    "Info",
    "Kernel",
    "News",
    "Tuning",
    "Until",
    "init",
    "sample",
    "step",
    "value_and_gradient",
]
