"""Whether a model is one at all: before its likelihood is worth estimating.

A flow whose weights were damaged may have lost a dimension: then it is no bijection, its
density is infinite on a surface, and every likelihood is a number without meaning.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Flow, Generator
from tiltflow.diagnostics.verdict import Check
from tiltflow.model.exact import exact_points
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import over_devices_once

DRAWS = 512
FLAT = 1e-4  # standard deviation of a coordinate, over that of the typical one
OFF = 1e-2  # of the typical coordinate of a dimension, after a round trip


def soundness(model: TiltedModel, key: PRNGKeyArray) -> list[Check]:
    """Checks on exact draws of the backbone; all of them must hold."""
    u, y, y_again, u_again, f = (
        np.asarray(values)
        for values in _there_and_back(model, exact_points(model.backbone, key, DRAWS))
    )
    spread = y.std(axis=0)
    narrowest = float(spread.min() / np.median(spread)) if np.isfinite(y).all() else 0.0
    off = max(_typical(y_again - y), _typical(u_again - u))
    return [
        Check(
            name="f and draws, share not finite",
            value=float(np.mean(~(np.isfinite(f) & np.isfinite(y).all(axis=1)))),
            limit=0.0,
            ok=bool(np.isfinite(f).all() and np.isfinite(y).all()),
            part="backbone",
            severity="failed",
            means="The model is not defined where its backbone draws.",
            try_="Fit again; lower the learning rate if it stays.",
        ),
        Check(
            name="narrowest coordinate of the backbone's draws",
            value=narrowest,
            limit=FLAT,
            ok=narrowest >= FLAT,
            part="backbone",
            severity="failed",
            means="A dimension has collapsed, relative to the others: the backbone draws on a "
            "surface, where a density is infinite.",
            try_="Look for constant or repeated columns in the data; fit again.",
        ),
        Check(
            name="round trip of a draw",
            value=off,
            limit=OFF,
            ok=off <= OFF,
            part="backbone",
            severity="failed",
            means="The backbone is not a bijection any more: its density is not that of its draws.",
            try_="Fit again.",
        ),
    ]


def _typical(off: np.ndarray) -> float:
    """The median absolute value of the worst dimension of `off` [draws, ...]; inf for NaN."""
    worst = float(np.median(np.abs(off.reshape(len(off), -1)), axis=0).max())
    return worst if np.isfinite(worst) else float("inf")


@over_devices_once
def _there_and_back(model: TiltedModel, u: Array) -> tuple[Array, ...]:
    """Latent draws, their coordinates [draws, dim], the same by way of data, u again, and f."""
    backbone = model.backbone
    y = jax.vmap(backbone.coordinates)(u)
    y_again, u_again = y, u
    if isinstance(backbone, Flow):
        y_again = jax.vmap(lambda y: backbone.units.encode(backbone.units.decode(y)))(y)
    if isinstance(backbone, Flow | Generator):
        u_again = jax.vmap(backbone.inverse)(y)[0]
    return u, y, y_again, u_again, jax.vmap(model.tilt)(y) + jnp.zeros(len(u))
