"""The chains to be judged: just made, or read from what `tiltflow sample` has written."""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from tiltflow.diagnostics.verdict import is_tuned
from tiltflow.errors import InputError
from tiltflow.evaluation.chains import LEAST
from tiltflow.mcmc import catalogue
from tiltflow.mcmc.blackjax_adapter import BlackJAX
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.hamiltonian import Hamiltonian
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.mala import MALA
from tiltflow.model.fitted import FittedModel
from tiltflow.model.log_normalizer import f_at
from tiltflow.runs import reading
from tiltflow.runs.draws import load_draws, read_index

BLOCK = 2**24  # numbers
LOOKED_AT = 8  # draws of each chain whose f is computed again
OFF = 1e-2  # by which that f may differ, of the spread of f, or in nats


@dataclass(frozen=True, eq=False)
class Judged:
    """Latent chains and what is known of how they were made; None where it is not recorded.

    Attributes:
        positions: `[chains, draws, *latent_shape]`.
        f: `[chains, draws]`.
        energies, divergent: `[chains, draws]`.
        acceptance: mean Metropolis probability.
        divergences: of all chains.
        transitions: of each chain, in the sampling phase.
        gradients: of each chain.
        kernel: its name.
        thin: transitions a draw.
    """

    positions: np.ndarray
    f: np.ndarray
    energies: np.ndarray | None = None
    divergent: np.ndarray | None = None
    acceptance: float | None = None
    divergences: int | None = None
    transitions: int | None = None
    gradients: int | None = None
    kernel: str | None = None
    thin: int = 1

    @property
    def norm(self) -> np.ndarray:
        """|u|^2, `[chains, draws]`."""
        return np.einsum("cdk,cdk->cd", self.flat, self.flat)

    @property
    def flat(self) -> np.ndarray:
        """The positions as `[chains, draws, size]`."""
        return np.asarray(self.positions).reshape(*self.positions.shape[:2], -1)

    @property
    def moved_by(self) -> Kernel | None:
        """The kernel of that name, to ask what it is; not the one that ran."""
        return None if self.kernel is None else catalogue.named(self.kernel, 1)

    @property
    def has_momentum(self) -> bool:
        """Whether the energies are those of trajectories, so that E-BFMI means something."""
        return isinstance(self.moved_by, Hamiltonian | BlackJAX | MALA)

    @property
    def is_tuned(self) -> bool:
        """Whether the step size is adapted to an acceptance that the verdict's limits are for."""
        kernel = self.moved_by
        return kernel is not None and is_tuned(kernel.target)


def just_made(draws: Draws, kernel: str) -> Judged:
    """The chains of `fresh_chains`."""
    return Judged(
        positions=np.asarray(draws.positions),
        f=np.asarray(draws.summaries["f"]),
        energies=draws.energies,
        divergent=draws.divergent,
        acceptance=draws.acceptance,
        divergences=draws.divergences,
        transitions=draws.transitions,
        gradients=draws.gradients,
        kernel=kernel,
    )


def stored(path: Path, fitted: FittedModel) -> Judged:
    """The draws in a .npz file or in a folder that `tiltflow sample` has written.

    Raises:
        InputError: there are none, too few, damaged ones, or those of another model.
    """
    judged = _from_folder(path) if path.is_dir() else _from_file(path)
    shape = fitted.model.backbone.latent_shape
    if judged.positions.ndim < 3 or judged.positions.shape[2:] != shape:
        raise InputError(
            f"{path} holds latent draws of shape {judged.positions.shape[2:]}; expected {shape}: "
            f"give draws of this run's model"
        )
    chains, draws = judged.positions.shape[:2]
    if judged.f.shape != (chains, draws) or min(chains, draws) < LEAST:
        raise InputError(
            f"{path} holds {chains} chains of {draws} draws; expected at least {LEAST} of each"
        )
    if not (np.isfinite(judged.f).all() and _are_finite(judged.positions)):
        raise InputError(f"{path} holds draws that are not finite; expected finite ones")
    _check_f(path, judged, fitted)
    return judged


def _are_finite(positions: np.ndarray) -> bool:
    """Whether all are; a block of draws at a time, as they may be more than fit in memory."""
    step = max(1, BLOCK // positions[:, :1].size)
    blocks = (positions[:, i : i + step] for i in range(0, positions.shape[1], step))
    return all(np.isfinite(block).all() for block in blocks)


def _check_f(path: Path, judged: Judged, fitted: FittedModel) -> None:
    """Raises InputError unless f at some draws is what was recorded with them."""
    some = np.linspace(0, judged.f.shape[1] - 1, LOOKED_AT).astype(int)
    recorded = np.asarray(judged.f[:, some], np.float64)
    again = np.asarray(f_at(fitted.model, jnp.asarray(judged.positions[:, some])))
    allowed = OFF * max(float(np.std(recorded)), 1.0)
    if not np.max(np.abs(again - recorded)) <= allowed:
        raise InputError(
            f"{path} was not drawn from this model: f at its draws is not what they recorded; "
            f"sample again, or name the run that they belong to"
        )


def _from_file(path: Path) -> Judged:
    arrays = reading.read_arrays(path)
    if not {"u", "f"} <= set(arrays):
        raise InputError(f"{path} has no arrays u and f; expected a file of `tiltflow sample`")
    thin = arrays.get("thin", np.ones((), int))
    if thin.shape != () or thin.dtype.kind not in "iu" or thin < 1:
        raise InputError(f"{path} holds a thin that is no whole number of 1 or more: sample again")
    return Judged(arrays["u"], arrays["f"], thin=int(thin))


def _from_folder(path: Path) -> Judged:
    index, draws = read_index(path), load_draws(path)
    if draws.positions is None or "f" not in draws.arrays:
        raise InputError(f"{path} holds no positions and f; expected a folder of `tiltflow sample`")
    identity, counts = index["identity"], draws.counts
    name = draws.about.get("kernel")
    transitions = counts.transitions - int(identity.get("num_warmup", 0))
    return Judged(
        positions=draws.positions,
        f=draws.arrays["f"],
        energies=draws.arrays.get("energies"),
        divergent=draws.arrays.get("divergent"),
        acceptance=counts.accepted / transitions if transitions > 0 else None,
        divergences=counts.divergences,
        transitions=transitions,
        gradients=counts.gradients,
        kernel=name if name in catalogue.KERNELS or name in catalogue.LENGTHS else None,
        thin=int(identity.get("thin", 1)),
    )
