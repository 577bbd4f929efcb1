"""Whether a model is one at all: before its likelihood is worth estimating.

A flow whose weights were damaged may have lost a dimension: then it is no bijection, its
density is infinite on a surface, and every likelihood is a number without meaning. A flow of the
user's own may say another volume than it has. A tilt may rise faster than the backbone falls: then
its density has no integral, whatever the chains have met so far.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone, CouplingFlow, Ensemble, Flow, Generator
from tiltflow.backbones.base import standard_normal_log_prob
from tiltflow.backbones.glow import Glow
from tiltflow.diagnostics.verdict import Check
from tiltflow.model.exact import exact_points
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import f_of
from tiltflow.parallel.devices import over_devices_once

DRAWS, FEW_DRAWS = 4_096, 512  # of the backbone, and of one of very many numbers
FLAT = 1e-4  # standard deviation of a coordinate, over that of the typical one
OFF = 1e-2  # of the typical coordinate of a dimension, after a round trip
VOLUME = 0.05  # nats between a flow's density and that of its draws
LARGEST, SOME = 64, 32  # coordinates of which a Jacobian is made, at as many draws
TESTED = (CouplingFlow, Glow)  # their log-determinants cannot be another's
OUT = 10.0  # times as far out, where a density must have fallen


class Drawn(NamedTuple):
    """Exact draws of the backbone, and what became of them.

    Attributes:
        u: `[draws, *latent_shape]`.
        y: `[draws, dim]`, their coordinates.
        y_again: the same by way of data.
        u_again: u by way of y.
        f: `[draws]`.
        rise: of the log-density over its median, at the outer half of the draws, led further out.
    """

    u: np.ndarray
    y: np.ndarray
    y_again: np.ndarray
    u_again: np.ndarray
    f: np.ndarray
    rise: np.ndarray


def drawn(model: TiltedModel, key: PRNGKeyArray) -> Drawn:
    """Exact draws of the model's backbone."""
    number = DRAWS if model.backbone.dim <= LARGEST else FEW_DRAWS
    points = exact_points(model.backbone, key, number)
    u, y, y_again, u_again, squares, c, outer = (
        np.asarray(values) for values in _there_and_back(model.backbone, points)
    )
    f, far = (f_of(model.tilt, at).astype(np.float32) for at in (y, c))
    far = np.where(np.isfinite(c.reshape(len(c), -1)).all(axis=1), far - 0.5 * outer, -np.inf)
    return Drawn(u, y, y_again, u_again, f, far - np.median(f - 0.5 * squares))


def soundness(model: TiltedModel, draws: Drawn) -> list[Check]:
    """Checks on exact draws of the backbone; all of them must hold."""
    u, y, y_again, u_again, f, rise = draws
    spread = y.std(axis=0)
    narrowest = float(spread.min() / np.median(spread)) if np.isfinite(y).all() else 0.0
    off = max(_typical(y_again - y), _typical(u_again - u))
    there = np.isfinite(y).all(axis=1)
    return [
        Check(
            name="draws of the backbone, share not finite",
            value=float(np.mean(~there)),
            limit=0.0,
            ok=bool(there.all()),
            part="backbone",
            severity="failed",
            means="The backbone draws what is no number.",
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
        *_volume(model, u),
        Check(
            name="f at the backbone's draws, share not finite",
            value=float(np.mean(~np.isfinite(f[there]))) if there.any() else 0.0,
            limit=0.0,
            ok=bool(np.isfinite(f[there]).all()),
            part="tilt",
            rests_on=("backbone",),
            severity="failed",
            means="The tilt is not defined where the backbone draws.",
            try_="Fit again, at a lower rate if it stays; look for what overflows in a tilt of "
            "your own.",
        ),
        _falls(rise),
    ]


def _volume(model: TiltedModel, u: np.ndarray) -> list[Check]:
    """Whether a flow's density is that of its draws: the Jacobian says how they spread.

    Not asked of the library's own, whatever their weights.
    """
    backbone = model.backbone
    flow = backbone.transport if isinstance(backbone, Ensemble) else backbone
    if type(flow) in TESTED or not isinstance(flow, Flow):
        return []
    if not flow.is_normal or flow.dim > LARGEST:
        return []
    off = np.abs(np.asarray(_off_volume(flow, jnp.asarray(u[:SOME]))))
    value = float(np.median(np.where(np.isfinite(off), off, np.inf)))
    return [
        Check(
            name="density of a draw against its Jacobian",
            value=value,
            limit=VOLUME,
            ok=value <= VOLUME,
            part="backbone",
            severity="failed",
            means="The backbone says another log-determinant than its draws have, in nats: its "
            "likelihoods are not those of a density.",
            try_="Look at the log-determinant of a flow of your own; fit again.",
        )
    ]


@over_devices_once
def _off_volume(flow: Flow, u: Array) -> Array:
    """log q(y) less the log-density that the Jacobian of draws y gives, of each."""

    def one(u: Array) -> Array:
        flat = jax.jacrev(lambda v: flow.coordinates(v.reshape(u.shape)))(u.ravel())
        said = flow.log_prob_coordinates(flow.coordinates(u))
        return said + jnp.linalg.slogdet(flat)[1] - standard_normal_log_prob(u)

    return jax.vmap(one)(u)


def _falls(rise: np.ndarray) -> Check:
    """Whether the log-density falls; `rise` of it far out, over that of a typical draw."""
    known = rise[~np.isneginf(rise)]
    value = float(known.max()) if len(known) else -np.inf
    return Check(
        name="rise of the log-density ten times as far out",
        value=value,
        limit=0.0,
        ok=value < 0.0,
        part="tilt",
        rests_on=("backbone",),
        severity="failed",
        means="f rises faster than the backbone's density falls: the model has no integral, or "
        "its mass lies where nothing was ever drawn.",
        try_="Learn for fewer steps, with more weight decay; bound a tilt of your own far out.",
    )


def _typical(off: np.ndarray) -> float:
    """The median absolute value of the worst dimension of `off` [draws, ...]; inf for NaN."""
    worst = float(np.median(np.abs(off.reshape(len(off), -1)), axis=0).max())
    return worst if np.isfinite(worst) else float("inf")


@over_devices_once
def _there_and_back(backbone: Backbone, u: Array) -> tuple[Array, ...]:
    """What `Drawn` has of latent points but f: these, coordinates, both again, and |u|^2.

    Of the outer half of them, led further out, the coordinates and |u|^2.
    """
    y = jax.vmap(backbone.coordinates)(u)
    y_again, u_again = y, u
    if isinstance(backbone, Flow):
        y_again = jax.vmap(lambda y: backbone.units.encode(backbone.units.decode(y)))(y)
    if isinstance(backbone, Flow | Generator):
        u_again = jax.vmap(backbone.inverse)(y)[0]

    # Of an ensemble this is the transport's, whose tails its members share.
    squares = jnp.sum(u.reshape(len(u), -1) ** 2, axis=1)
    outer = OUT * u[jnp.argsort(squares)[len(u) // 2 :]]
    c = jax.vmap(backbone.coordinates)(outer)
    return u, y, y_again, u_again, squares, c, jnp.sum(outer.reshape(len(outer), -1) ** 2, axis=1)
