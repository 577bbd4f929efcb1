"""Which kernel chains of a tilted model move by."""

from tiltflow.backbones.glow import Glow
from tiltflow.mcmc import catalogue
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.on_host import HostKernel
from tiltflow.model.independent import IndependentDraws
from tiltflow.model.tilted import ExactDraws, TiltedModel

INDEPENDENT = "independence"
MOST_LEAPFROGS = 10_000  # of one transition


def suited_kernel(model: TiltedModel) -> str:
    """The name of the kernel that chains move by if none is asked for.

    Exact draws of a backbone whose noise is not normal, which is near the model, moved on the host.
    Otherwise HMC; and in turn jumps to draws of the mixture, where the tilt has one. On images,
    whose tilt empties the space between kinds of them, replica exchange.
    """
    if isinstance(model.mixture, ExactDraws):
        return INDEPENDENT
    if model.mixture is not None:
        return catalogue.JUMPS
    return catalogue.EXCHANGE if isinstance(model.backbone, Glow) else "hmc"


def kernel_of(model: TiltedModel, name: str | None, leapfrogs: int) -> Kernel | HostKernel:
    """The kernel of that name, its jumps to the mixture of the tilt; None: the suited one."""
    name = suited_kernel(model) if name is None else name
    if name == INDEPENDENT and isinstance(model.mixture, ExactDraws):
        return IndependentDraws(model)
    return catalogue.with_proposal(name, leapfrogs, model.mixture)
