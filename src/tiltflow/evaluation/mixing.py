"""How well chains have mixed: R-hat and effective sizes of all that is looked at.

Latent coordinates and the norm mix easily, so f and projections of the data are looked at beside
them (design, section 5): what tells kinds of data apart may be a little of each coordinate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from tiltflow.diagnostics.alike import Alike, most_alike
from tiltflow.diagnostics.convergence import Convergence, convergence
from tiltflow.diagnostics.verdict import Check, biased, is_tuned, judge
from tiltflow.mcmc.draws import Draws
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import over_devices

PROJECTIONS = 16  # of the data's coordinates, at most, on random directions
LOOKED_AT = 2**26  # numbers in the draws that are projected, at most
PART = 1_024  # draws in hand at a time


@dataclass(frozen=True, eq=False)
class Mixing:
    """Diagnostics of a set of chains.

    Attributes:
        names: of the quantities: `"u[0]"`, ..., `"f"`, `"|u|^2"`, `"projection[0]"`, ...
        rhat, ess_bulk, ess_tail: one a quantity (Vehtari et al. 2021).
        acceptance: mean Metropolis probability.
        divergences: transitions rejected as not finite, in the sampling phase.
        chains, draws: draws are per chain.
        transitions: of each chain, in the sampling phase.
        gradients: of each chain, in the sampling phase.
        step_size, leapfrogs: of the kernel.
        is_tuned: whether the acceptance is one that the kernel's steps were adapted to.
        is_biased: whether the kernel's draws are not the model's.
        alike: how chains move together, by f and |u|^2; None: it is not known.
    """

    names: tuple[str, ...]
    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    acceptance: float
    divergences: int
    chains: int
    draws: int
    transitions: int
    gradients: int
    step_size: float
    leapfrogs: int
    is_tuned: bool
    is_biased: bool
    alike: Alike | None = None

    def to_dict(self) -> dict[str, Any]:
        """The block `mixing` of the metrics."""
        found = Convergence(self.rhat, self.ess_bulk, self.ess_tail)
        return {
            **extremes(self.names, found, self.chains * self.gradients),
            "acceptance": self.acceptance,
            "divergences": self.divergences,
            "chains": self.chains,
            "draws": self.draws,
            "gradients": self.gradients,
            "step_size": self.step_size,
            "leapfrogs": self.leapfrogs,
        }

    def verdict(self, extra: Sequence[Check] = ()) -> dict[str, Any]:
        """The chains, judged, with `extra` checks beside their own."""
        return judge(
            rhat_max=float(np.max(self.rhat)),
            ess_bulk_min=float(np.min(self.ess_bulk)),
            ess_tail_min=float(np.min(self.ess_tail)),
            acceptance=self.acceptance if self.is_tuned else None,
            divergences=self.divergences,
            draws_total=self.chains * self.transitions,
            extra=[
                *([] if self.alike is None else [self.alike.check()]),
                *([biased("the kernel")] if self.is_biased else []),
                *extra,
            ],
        )


def mixing(draws: Draws, model: TiltedModel) -> Mixing:
    """Diagnose draws of `model` by `mcmc.run.sample`, made with `latent_chains.chain_summary`."""
    positions = np.asarray(draws.positions)
    names, found = looked_at(model, positions, draws.summaries["f"], draws.summaries["norm"])
    return Mixing(
        names=names,
        rhat=found.rhat,
        ess_bulk=found.ess_bulk,
        ess_tail=found.ess_tail,
        acceptance=float(np.mean(draws.acceptance)),
        divergences=int(draws.divergences),
        chains=positions.shape[0],
        draws=positions.shape[1],
        transitions=draws.transitions,
        gradients=int(draws.gradients),
        step_size=float(draws.step_size),
        leapfrogs=int(draws.num_leapfrogs),
        is_tuned=is_tuned(draws.target),
        is_biased=draws.is_biased,
        alike=most_alike(draws.summaries["f"], draws.summaries["norm"]),
    )


def extremes(names: tuple[str, ...], found: Convergence, gradients: int | None) -> dict[str, Any]:
    """The worst of all that is looked at, and effective draws for 1,000 of all `gradients`."""
    fewest = float(np.min(found.ess_bulk))
    return {
        "rhat_max": float(np.max(found.rhat)),
        "rhat_max_of": names[int(np.argmax(found.rhat))],
        "rhat_f": float(found.rhat[names.index("f")]) if "f" in names else None,
        "ess_bulk_min": fewest,
        "ess_tail_min": float(np.min(found.ess_tail)),
        "ess_per_1000_gradients_min": 1000 * fewest / gradients if gradients else None,
    }


def looked_at(
    model: TiltedModel, positions: np.ndarray, f: np.ndarray, norm: np.ndarray
) -> tuple[tuple[str, ...], Convergence]:
    """Latent coordinates, f, |u|^2 and projections: their names, and how they converged.

    An f that is the same everywhere, as before a tilt is learned, has nothing to mix and is left
    out.

    Args:
        model: that they are draws of.
        positions: `[chains, draws, *latent_shape]`.
        f, norm: `[chains, draws]`.
    """
    latent = positions.reshape(*positions.shape[:2], -1)
    scalars = {"f": f, "|u|^2": norm}
    if np.ptp(f) < 1e-4:
        del scalars["f"]
    # Of a folder's draws the whole is never in memory: some, evenly thinned, are pushed.
    some = positions[:, :: max(1, -(-positions.size // LOOKED_AT))]
    projected = projected_in_parts(model, some.reshape(-1, *some.shape[2:]))
    projected = projected.reshape(*some.shape[:2], -1)
    seen = latent, np.stack([*scalars.values()], axis=-1), projected
    found = Convergence(
        *(np.concatenate(values) for values in zip(*map(convergence, seen), strict=True))
    )
    names = (f"u[{i}]" for i in range(latent.shape[-1]))
    return (*names, *scalars, *(f"projection[{i}]" for i in range(projected.shape[-1]))), found


def projected_in_parts(
    model: TiltedModel, u: Float[np.ndarray, "draws ..."]
) -> Float[np.ndarray, "draws projections"]:
    """`projections`, part by part: more draws compile nothing anew."""
    parts = []
    for first in range(0, len(u), PART):
        part = u[first : first + PART]
        filled = np.concatenate([part, np.repeat(part[:1], PART - len(part), axis=0)])
        parts.append(np.asarray(projections(model, jnp.asarray(filled)))[: len(part)])
    return np.concatenate(parts)


@over_devices
def projections(
    model: TiltedModel, u: Float[Array, "draws ..."]
) -> Float[Array, "draws projections"]:
    """The data's coordinates at latent points, on fixed random directions."""
    dim = model.backbone.dim
    directions = jr.normal(jr.key(0), (dim, min(PROJECTIONS, dim)))

    def one(u: Array) -> Array:
        y = model.backbone.coordinates(u)
        return jnp.matmul(y, directions, precision=jax.lax.Precision.HIGHEST)

    return jax.vmap(one)(u)
