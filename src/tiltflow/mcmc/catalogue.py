"""The kernels that have a name, for the command line and for the pilot."""

from collections.abc import Callable

import jax.numpy as jnp

from tiltflow.errors import InputError
from tiltflow.mcmc.blackjax_adapter import BlackJAX
from tiltflow.mcmc.gaussian_hmc import GaussianHMC
from tiltflow.mcmc.hamiltonian import HMC
from tiltflow.mcmc.independence import Independence, Proposal
from tiltflow.mcmc.isir import ISIR
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.langevin import UnadjustedLangevin
from tiltflow.mcmc.mala import MALA
from tiltflow.mcmc.mixture import Mixture
from tiltflow.mcmc.tempering import ReplicaExchange, rising

AUTO = "auto"
JUMPS = "hmc+jumps"
DRAWS = "isir"
EXCHANGE = "replica-exchange"
PROPOSALS = 16  # of i-SIR
FEW_PROPOSALS = 4  # of i-SIR whose proposal is near the model
JUMPS_TO = 8  # draws of a proposal that compete in a jump
REPLICAS = 5  # of replica exchange


def _hmc(leapfrogs: int) -> Kernel:
    """With a traced number of leapfrogs: one program serves them all."""
    return HMC(num_leapfrogs=jnp.asarray(leapfrogs))


KERNELS: dict[str, Callable[[int], Kernel]] = {
    "hmc": lambda leapfrogs: HMC(num_leapfrogs=leapfrogs),
    "chees": lambda leapfrogs: HMC(),
    "gaussian-hmc": lambda leapfrogs: GaussianHMC(num_leapfrogs=leapfrogs),
    "mala": lambda leapfrogs: MALA(),
    "nuts": lambda leapfrogs: BlackJAX(),
    "independence": lambda leapfrogs: Independence(),
    DRAWS: lambda leapfrogs: ISIR(proposals=PROPOSALS),
    "mixture": lambda leapfrogs: Mixture(
        (HMC(num_leapfrogs=leapfrogs), ISIR(proposals=PROPOSALS)), weights=(0.5, 0.5)
    ),
    JUMPS: lambda leapfrogs: Mixture((HMC(num_leapfrogs=leapfrogs), Independence()), cycle=(0, 1)),
    EXCHANGE: lambda leapfrogs: ReplicaExchange(rising(REPLICAS), num_leapfrogs=leapfrogs),
    "langevin": lambda leapfrogs: UnadjustedLangevin(),
}
"""By name, from the number of leapfrogs that suits the model."""

LENGTHS = {f"hmc-{n}": n for n in (4, 8, 16, 32)}
"""HMC with so many leapfrogs."""


def jumps_to(proposal: Proposal | None) -> Kernel:
    """Jumps to draws of the proposal, some at a time; of the backbone, one at a time, if None."""
    return Independence() if proposal is None else ISIR(proposals=JUMPS_TO, proposal=proposal)


def with_proposal(name: str, leapfrogs: int, proposal: Proposal | None) -> Kernel:
    """The kernel of that name; those that jump do so to draws of the proposal, if there is one."""
    if name == DRAWS and proposal is not None:
        return ISIR(proposals=FEW_PROPOSALS, proposal=proposal)
    if name == JUMPS and proposal is not None:
        return Mixture((HMC(num_leapfrogs=leapfrogs), jumps_to(proposal)), cycle=(0, 1))
    return named(name, leapfrogs)


def candidates(leapfrogs: int) -> dict[str, Kernel]:
    """What the pilot tries."""
    names = (*LENGTHS, "mixture")
    return {name: named(name, leapfrogs) for name in names}


def check_name(name: str) -> None:
    """Raises InputError unless there is such a kernel, or it is `"auto"`."""
    names = (AUTO, *KERNELS, *LENGTHS)
    if name not in names:
        raise InputError(f"kernel {name!r}; expected one of {', '.join(names)}")


def named(name: str, leapfrogs: int) -> Kernel:
    """The kernel of that name, other than `"auto"`."""
    check_name(name)
    return _hmc(LENGTHS[name]) if name in LENGTHS else KERNELS[name](leapfrogs)
