"""Scores of single rows: log q and f, the same whatever rows stand beside a row, and in any order.

Values on a grid stand for cells (`data/grids.py`), over which a row is spread; its scores are means
over the same few points of the cell for every row: a Latin hypercube (McKay, Beckman and Conover
1979). The mean of log p bounds the log-probability of the cells from below, as in `likelihood.py`.
A program is given the same number of rows each time, so that rounding is the same, too.

What a model cannot have made has probability 0, log p of -inf: NaN, values beyond float32, values
on no grid of the model's, and wherever its density is not finite. No number hides it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.units.atom_cells import AtomCells, atom_cells
from tiltflow.backbones.units.bijections import LEAST, within_cell
from tiltflow.evaluation.generated import has_noise
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import map_in_parts, over_devices

DRAWS = 16  # points of a cell
VALUES = 2**17  # that are in hand together
FEWEST, MOST = 64, 2**13  # rows in hand together
REASONS = ("NaN or infinite", "beyond float32's 3.4e38",
           "on no value of the model's grid, or no label that it knows",
           "without a finite density")  # fmt: skip


class RowScores(NamedTuple):
    """Scores of rows, in nats.

    Attributes:
        log_q: `[rows]`, the backbone's log-density, data units; -inf for outliers.
        f: `[rows]`, the tilt; NaN for outliers.
        why: `[rows]`, 0, or for an outlier the number of its reason in `REASONS`, from 1.
        where: `[rows]`, for the first three reasons the first number of the row that it holds for.
    """

    log_q: np.ndarray
    f: np.ndarray
    why: np.ndarray
    where: np.ndarray

    @property
    def log_p(self) -> np.ndarray:
        """Log p + log Z, `[rows]`: -inf for outliers."""
        return np.where(self.why > 0, -np.inf, self.log_q + self.f)


class RowScorer:
    """Scores rows under a model.

    Attributes:
        room: rows that a program is given.
    """

    def __init__(self, fitted: FittedModel, *, draws: int = DRAWS, seed: int = 0) -> None:
        """A scorer.

        Args:
            fitted: the model.
            draws: points of each cell, and embeddings of a generator's rows; 1 where rows have
                one log-density each.
            seed: of both.
        """
        backbone = fitted.model.backbone
        vary = fitted.is_dequantised or backbone.embeds_at_random
        self._fitted, self._shape = fitted, backbone.data_shape
        self._keys = jr.split(jr.key(seed), draws if vary else 1)
        self._points = jnp.asarray(hypercube(len(self._keys), self._shape, seed))
        grid = fitted.grid
        step = np.float32(fitted.integers) if grid is None else grid.step
        self._atoms = atom_cells(grid)
        self._steps = jnp.broadcast_to(jnp.asarray(step), self._shape)
        size = int(np.prod(self._shape))
        self.room = int(np.clip(2 ** int(np.log2(max(1, VALUES // size))), FEWEST, MOST))

    def __call__(self, rows: Float[np.ndarray, "rows ..."]) -> RowScores:
        """The scores of `rows` (`[rows, *data_shape]`), data units, of any type of numbers."""
        x, why, where = self._told_apart(self._fitted.own(rows))
        log_cell = 0.0
        if self._fitted.grid is not None:
            x, log_cell = self._fitted.grid.to_cells(x), self._fitted.grid.log_volume(x)
        log_q, f = np.empty(len(x)), np.empty(len(x))
        for start in range(0, len(x), self.room):
            part = np.zeros((self.room, *self._shape), np.float32)
            some = x[start : start + self.room]
            part[: len(some)] = some
            scored = _scored(
                self._fitted.model,
                jnp.asarray(part),
                self._points,
                self._steps,
                self._keys,
                self._atoms,
            )
            here = slice(start, start + len(some))
            log_q[here], f[here] = (
                np.asarray(s, np.float64).mean(axis=0)[: len(some)] for s in scored
            )
        why[(why == 0) & ~(np.isfinite(log_q) & np.isfinite(f))] = len(REASONS)
        odd = why > 0
        return RowScores(
            np.where(odd, -np.inf, log_q + log_cell), np.where(odd, np.nan, f), why, where
        )

    def _told_apart(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows as float32, those that cannot be scored as zeros; why, and where."""
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.asarray(rows).astype(np.float32)
        finite = np.isfinite(x)
        why, where = np.zeros(len(x), np.int8), np.zeros(len(x), np.int64)
        if not finite.all():
            with np.errstate(over="ignore", invalid="ignore"):
                known = np.isfinite(np.asarray(rows).astype(np.float64))
            for reason, wrong in ((1, ~known), (2, known & ~finite)):
                _note(why, where, reason, wrong)
            x[why > 0] = 0
        off = self._off(x)
        if off is not None:
            _note(why, where, 3, off)
        x[why > 0] = 0
        return x, why, where

    def _off(self, x: np.ndarray) -> np.ndarray | None:
        """Which numbers are none that the model's data can hold; None: all numbers are some."""
        if self._fitted.grid is not None:
            return self._fitted.grid.is_off(x)
        return x != np.floor(x) if self._fitted.integers else None


def _note(why: np.ndarray, where: np.ndarray, reason: int, wrong: np.ndarray) -> None:
    """Set the reason of rows in which a number is wrong, unless they have one."""
    flat = wrong.reshape(len(wrong), -1)
    new = flat.any(axis=1) & (why == 0)
    why[new], where[new] = reason, np.argmax(flat[new], axis=1)


def hypercube(number: int, shape: tuple[int, ...], seed: int) -> Float[np.ndarray, "number ..."]:
    """Points of the unit cube, `[number, *shape]`: each number in each of `number` strips once."""
    rng = np.random.default_rng(seed)
    strips = rng.permuted(np.tile(np.arange(number), (int(np.prod(shape)), 1)), axis=1).T
    points = (strips + rng.random(strips.shape)) / number
    return np.clip(points, LEAST, 1 - LEAST).reshape(number, *shape).astype(np.float32)


def meaning(fitted: FittedModel) -> str:
    """What a row's log p is the logarithm of, in words."""
    bound = fitted.is_dequantised or has_noise(fitted.model.backbone)
    if fitted.grid is not None:
        kind = "mass of its cells"
        if fitted.grid.levels or fitted.grid.atoms:
            kind = "mass of its labels and cells"
        if not fitted.grid.cells.all():
            kind += " on the grid, times the density of its other columns"
    else:
        kind = "mass of its integers" if fitted.integers else "density, in the units of the data"
    return kind + (", a bound from below" if bound else "")


@over_devices
def _scored(
    model: TiltedModel,
    x: Float[Array, "room ..."],
    points: Float[Array, "draws ..."],
    steps: Float[Array, "..."],
    keys: PRNGKeyArray,
    atoms: AtomCells | None,
) -> tuple[Float[Array, "draws room"], Float[Array, "draws room"]]:
    """Log q and f of every row, at each of the points of its cells."""

    def at(draw: tuple[Array, PRNGKeyArray]) -> tuple[Array, Array]:
        point, key = draw

        def one(row: Array) -> tuple[Array, Array]:
            width = steps if atoms is None else steps + atoms.widths_of(row)
            c, log_weight = model.backbone.embed(within_cell(row, point, width), key)
            return model.backbone.log_prob_coordinates(c) + log_weight, model.tilt(c)

        return map_in_parts(one, x, MOST)

    return jax.lax.map(at, (points, keys))
