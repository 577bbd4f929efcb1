"""What is missing of rows, given what is there: p(missing | seen) ∝ p(row), where p is exact.

A row lies in *columns* w, of which each is a function of one number of the row alone: coordinates
y of the backbone, where its units work column by column, or standardised data, where they mix
columns (`Affine`). With what is seen held fast, the log-density of the rest is f(y) + log q(y) up
to a constant: no log-determinant, and no noise on what is seen.

Chains move t, one number a column, nearly N(0, I) by construction (`rough.py`)::

    missing    w = mean + L t, a normal guess of it, given what is seen;
    a cell     w = low + width Phi(t), where an integer, or a value on a grid, was seen: all of its
               cell counts, spread evenly, so that -t^2 / 2 is added;
    seen       w as it is; t is noise of no consequence, and -t^2 / 2 is added.

Which is which is told by arrays: one program serves all patterns.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float
from scipy import special

from tiltflow.backbones.units import Affine, Units
from tiltflow.model.tilted import TiltedModel


class Conditional(eqx.Module):
    """The log-density of t, for some chains of each of some rows.

    Attributes:
        model: its backbone is a flow.
        missing: `[rows, dim]`.
        base: `[rows, dim]`, of columns: the mean of those that are missing, the lower end of
            cells, those that are seen.
        factor: `[rows, dim, dim]`, L, with zeros outside of what is missing; or `[rows, dim]`,
            where it is diagonal.
        width: `[rows, dim]`, of cells; 0 elsewhere.
        chains: of each row; those of one row stand together.
    """

    model: TiltedModel
    missing: Bool[Array, "rows dim"]
    base: Float[Array, "rows dim"]
    factor: Float[Array, "rows dim dim"] | Float[Array, "rows dim"]
    width: Float[Array, "rows dim"]
    chains: int = eqx.field(static=True)

    def __call__(self, t: Float[Array, "some dim"]) -> Float[Array, " some"]:
        """In nats, up to a constant of each row; all chains, or several times all of them."""
        t = t.reshape(-1, len(self.base), self.chains, t.shape[-1])
        w = self._columns(t).reshape(-1, t.shape[-1])
        backbone, tilt = self.model.backbone, self.model.tilt

        def log_p(w: Array) -> Array:
            y = coordinates_of(backbone.units, w)
            return backbone.log_prob_coordinates(y) + tilt(y)

        rest = jnp.sum(jnp.where(self.missing[:, None], 0.0, t**2), axis=-1)
        return jax.vmap(log_p)(w) - 0.5 * rest.ravel()

    def _columns(self, t: Float[Array, "times rows chains dim"]) -> Array:
        if self.factor.ndim == 2:
            moved = self.factor[:, None] * t
        else:
            exactly = jax.lax.Precision.HIGHEST
            moved = jnp.einsum("rij,prcj->prci", self.factor, t, precision=exactly)
        return self.base[:, None] + moved + self.width[:, None] * ndtr(t)

    def columns(self, t: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, "..."]:
        """Columns w of draws of all chains, `[rows, chains, draws, dim]`, on the host."""
        t = t.reshape(len(self.base), self.chains, *t.shape[1:])
        base, factor, width = (np.asarray(a) for a in (self.base, self.factor, self.width))
        if factor.ndim == 2:
            moved = factor[:, None, None] * t
        else:
            moved = np.einsum("rij,rcdj->rcdi", factor, t, optimize=True)
        return base[:, None, None] + moved + width[:, None, None] * special.ndtr(t)


def columns_of(units: Units, c: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
    """Coordinates of the backbone to columns w."""
    if not isinstance(units, Affine):
        return c
    return jnp.matmul(c, units.inverse.T, precision=jax.lax.Precision.HIGHEST) / _scale(units)


def coordinates_of(units: Units, w: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
    """Columns w to coordinates of the backbone; up to a constant factor of the density."""
    if not isinstance(units, Affine):
        return w
    exactly = jax.lax.Precision.HIGHEST
    return jnp.matmul(w * _scale(units), units.matrix.T, precision=exactly)


def _scale(units: Any) -> Float[Array, " dim"]:
    """Of each number of a row, if the coordinates are N(0, I)."""
    return jnp.sqrt(jnp.sum(units.inverse**2, axis=1))
