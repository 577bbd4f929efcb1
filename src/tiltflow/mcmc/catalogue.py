"""The kernels that have a name, for the command line and for the pilot."""

from collections.abc import Callable

from tiltflow.errors import InputError
from tiltflow.mcmc.hmc_kernel import HMC
from tiltflow.mcmc.kernel import Kernel

AUTO = "auto"

KERNELS: dict[str, Callable[[int], Kernel]] = {
    "hmc": lambda leapfrogs: HMC(num_leapfrogs=leapfrogs),
}
"""By name, from the number of leapfrogs that suits the model."""

CANDIDATES: dict[str, Kernel] = {f"hmc-{n}": HMC(num_leapfrogs=n) for n in (4, 8, 16, 32)}
"""What the pilot tries; each can be asked for by its name, too."""


def check_name(name: str) -> None:
    """Raises InputError unless there is such a kernel, or it is `"auto"`."""
    names = (AUTO, *KERNELS, *CANDIDATES)
    if name not in names:
        raise InputError(f"kernel {name!r}; expected one of {', '.join(names)}")


def named(name: str, leapfrogs: int) -> Kernel:
    """The kernel of that name, other than `"auto"`."""
    check_name(name)
    return CANDIDATES[name] if name in CANDIDATES else KERNELS[name](leapfrogs)
