"""Units in a specification: their kind, and what they are made of."""

import jax.numpy as jnp
import numpy as np

from tiltflow.backbones.units.bijections import Affine, Gaussianise, Histogram, Logit, Units
from tiltflow.backbones.units.censored import Censored
from tiltflow.backbones.units.heavy import HeavyTailed
from tiltflow.backbones.units.scale import Scale


def units_skeleton(kind: str, shape: tuple[int, ...], levels: int) -> Units:
    """Units of the right shapes and of no particular values."""
    dim = int(np.prod(shape))
    vector, scalar = jnp.zeros(dim), jnp.zeros(())
    if kind == "scale":
        return Scale(data_shape=shape, mean=scalar, scale=scalar, low=scalar, high=scalar)
    if kind == "censored":
        return Censored(data_shape=shape, mean=scalar, scale=scalar, low=scalar, high=scalar)
    if kind == "gaussianise":
        table = jnp.zeros((dim, levels))
        return Gaussianise(data_shape=shape, low=scalar, below=table, above=table, mass=table)
    if kind == "histogram":
        table, edges = jnp.zeros((dim, levels)), jnp.zeros((dim, levels + 1))
        return Histogram(data_shape=shape, edges=edges, below=table, above=table, mass=table)
    if kind == "tails":
        table, edges = jnp.zeros((dim, levels)), jnp.zeros((dim, levels + 1))
        tails = jnp.zeros((dim, 2))
        return HeavyTailed(
            edges=edges,
            below=table,
            above=table,
            mass=table,
            shape=tails,
            scale=tails,
            data_shape=shape,
        )
    if kind == "logit":
        return Logit(
            data_shape=shape, low=scalar, high=scalar, alpha=scalar, mean=vector, scale=vector
        )
    matrix = jnp.zeros((dim, dim))
    return Affine(data_shape=shape, mean=vector, matrix=matrix, inverse=matrix, log_det=scalar)


def units_kind(units: Units) -> tuple[str, int]:
    """The kind that `units_skeleton` takes, and the levels."""
    if isinstance(units, Scale):
        return "scale", 0
    if isinstance(units, Censored):
        return "censored", 0
    if isinstance(units, Gaussianise):
        return "gaussianise", units.levels
    if isinstance(units, Histogram | HeavyTailed):
        return "histogram" if isinstance(units, Histogram) else "tails", units.levels
    return ("logit" if isinstance(units, Logit) else "whiten"), 0
