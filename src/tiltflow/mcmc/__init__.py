"""Markov chains on any batched log-density, `[chains, *event]` to `[chains]`."""

from tiltflow.mcmc.blackjax_adapter import BlackJAX
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.gaussian_hmc import GaussianHMC
from tiltflow.mcmc.hamiltonian import HMC
from tiltflow.mcmc.hmc import HMCInfo, HMCState, init, step, value_and_gradient
from tiltflow.mcmc.independence import Independence
from tiltflow.mcmc.isir import ISIR
from tiltflow.mcmc.kernel import Info, Kernel, Tuning
from tiltflow.mcmc.langevin import UnadjustedLangevin
from tiltflow.mcmc.mala import MALA
from tiltflow.mcmc.mixture import Mixture
from tiltflow.mcmc.progress import News, Progress
from tiltflow.mcmc.run import sample
from tiltflow.mcmc.stopping import Until
from tiltflow.mcmc.tempering import ReplicaExchange

__all__ = [
    "HMC",
    "ISIR",
    "MALA",
    "BlackJAX",
    "Draws",
    "GaussianHMC",
    "HMCInfo",
    "HMCState",
    "Independence",
    "Info",
    "Kernel",
    "Mixture",
    "News",
    "Progress",
    "ReplicaExchange",
    "Tuning",
    "UnadjustedLangevin",
    "Until",
    "init",
    "sample",
    "step",
    "value_and_gradient",
]
