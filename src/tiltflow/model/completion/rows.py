"""Rows with gaps in columns w, and columns as data again; a few programs for any number of rows."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tiltflow.backbones import Ensemble
from tiltflow.backbones.units.atom_cells import AtomCells
from tiltflow.backbones.units.bijections import LEAST, Units, within_cell
from tiltflow.model.completion.conditional import columns_of, coordinates_of
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import scored

PART = 1_024  # rows in hand together
FEWEST = 16


class Seen(NamedTuple):
    """What is there of rows, in columns.

    Attributes:
        low: `[rows, dim]`, the value, or the lower end of its cell.
        middle: `[rows, dim]`, the value, or the middle of its cell.
        width: `[rows, dim]`, of the cell; 0 where there is none.
        lost: `[rows]`, whether a number is so far away that float32 has no column for it.
    """

    low: np.ndarray
    middle: np.ndarray
    width: np.ndarray
    lost: np.ndarray

    def of(self, rows: np.ndarray) -> Seen:
        """Of some of the rows."""
        return Seen(*(part[rows] for part in self))


def seen(
    units: Units,
    x: Float[np.ndarray, "rows ..."],
    missing: Bool[np.ndarray, "rows dim"],
    step: Float[np.ndarray, "..."],
    atoms: AtomCells | None = None,
) -> Seen:
    """Rows in columns.

    Args:
        units: of the backbone.
        x: `[rows, *data_shape]`, the lower ends of cells, anything where a number is missing.
        missing: `[rows, dim]`.
        step: `[*data_shape]`, the width of cells in data units; 0 where there is none.
        atoms: the cells of atoms; None: there are none.
    """
    low, middle, high = (
        np.asarray(a, np.float64)
        for a in _in_parts(lambda x: _encoded(units, x, jnp.asarray(step), atoms), x)
    )
    cells = (step > 0).ravel() & ~missing
    if atoms is not None:
        cells |= np.asarray(atoms.widths_of(jnp.asarray(x)) > 0) & ~missing
    lost = np.any(~(np.isfinite(low) & np.isfinite(high)), axis=1)
    low, middle, high = (np.where(lost[:, None], 0.0, a) for a in (low, middle, high))
    return Seen(low, np.where(cells, middle, low), np.where(cells, high - low, 0.0), lost)


def decoded(units: Units, w: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows ..."]:
    """Columns as data, `[rows, *data_shape]`."""
    return _in_parts(lambda w: (_decoded(units, w),), w)[0]


def log_density(model: TiltedModel, w: Float[np.ndarray, "rows dim"]) -> np.ndarray:
    """f + log q of columns, nats, up to a constant of the model; `[rows]`.

    Under an ensemble its tilt and its density ask the members once (`told.py`).
    """
    if isinstance(model.backbone, Ensemble):
        c = _in_parts(lambda w: (_coordinates(model.backbone.units, w),), w)[0]
        of = scored(model, c)
        return of.f + of.log_q
    return _in_parts(lambda w: (_log_density(model, w),), w)[0].astype(np.float64)


def _in_parts(program, rows: np.ndarray) -> list[np.ndarray]:
    """What `program` makes of rows, some at a time, filled up: so many sizes, so many programs."""
    size = min(PART, max(FEWEST, 2 ** (len(rows) - 1).bit_length()))
    parts = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        part = np.zeros((size, *rows.shape[1:]), np.float32)
        part[: len(some)] = some
        part[len(some) :] = some[:1]
        parts.append([np.asarray(made)[: len(some)] for made in program(jnp.asarray(part))])
    return [np.concatenate(made) for made in zip(*parts, strict=True)]


@eqx.filter_jit
def _encoded(
    units: Units, x: Array, step: Array, atoms: AtomCells | None
) -> tuple[Array, Array, Array]:
    """Columns at the lower end, in the middle and at the upper end of each number's cell."""

    width = step if atoms is None else step + atoms.widths_of(x)

    def at(point: float) -> Array:
        inside = within_cell(x, jnp.full_like(x, point), width)
        return columns_of(units, jax.vmap(units.encode)(inside))

    return at(LEAST), at(0.5), at(1 - LEAST)


@eqx.filter_jit
def _decoded(units: Units, w: Array) -> Array:
    return jax.vmap(lambda w: units.decode(coordinates_of(units, w)))(w)


@eqx.filter_jit
def _coordinates(units: Units, w: Array) -> Array:
    return coordinates_of(units, w)


@eqx.filter_jit
def _log_density(model: TiltedModel, w: Array) -> Array:
    def one(w: Array) -> Array:
        y = coordinates_of(model.backbone.units, w)
        return model.backbone.log_prob_coordinates(y) + model.tilt(y)

    return jax.vmap(one)(w)
