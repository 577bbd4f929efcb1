"""Cells of coordinates: where values on a grid, and labels, lie behind their column's histogram.

A value's noise is uniform in its cell, so behind units that make columns normal it has the density
of N(0, 1) between the ends of a cell, whatever the value: what is to be learned of such a column is
the share of each cell, and nothing within. Of few cells, as of labels, each share is a number of
its own, in whatever order; of many it is the mass that a rising map puts between the cell's ends.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr, ndtri
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.stats import norm as exact_norm

from tiltflow.backbones.base import LOG_2PI
from tiltflow.backbones.units.bijections import Gaussianise, Histogram, Units
from tiltflow.backbones.units.heavy import HeavyTailed
from tiltflow.backbones.units.places import at_most

FEW, MOST = 16, 512  # cells of a column, whose shares are numbers of their own, or masses
SIZES = (8, 17, 33, 65, 129, 257, MOST + 1)  # ends that there is room for: few programs
FAR, NARROW = 40.0, 0.05  # of N(0, 1): where no mass is left; where a density has no slope
NONE = 1e6  # stands for infinity in tables, which are saved, and have to be finite


class Cells(eqx.Module):
    """The ends of the cells of some columns, and what lies between them; none of it is learned.

    Below the first end and above the last lie two levels more, where nothing was seen.

    Attributes:
        ends: `[columns, ends]`, coordinates, increasing; `NONE` behind the last of a column.
        log_mass: `[columns, ends + 1]`, of N(0, 1) at each level; -`NONE` where there is none.
        middle: the same shape, a coordinate within each level; 0 where there is none.
    """

    ends: Float[Array, "columns ends"]
    log_mass: Float[Array, "columns levels"]
    middle: Float[Array, "columns levels"]

    @classmethod
    def nothing(cls, columns: int, ends: int) -> "Cells":
        """Arrays of these shapes."""
        levels = jnp.zeros((columns, ends + 1))
        return cls(jnp.zeros((columns, ends)), levels, levels)

    @classmethod
    def between(cls, ends: Sequence[np.ndarray]) -> "Cells":
        """Those that end at these coordinates, of each column."""
        most = max(map(len, ends), default=1)
        room = next((size for size in SIZES if size >= most), most)
        table = np.full((len(ends), room + 2), np.inf)
        table[:, 0] = -np.inf
        for row, one in zip(table, ends, strict=True):
            row[1 : 1 + len(one)] = one
        low, high = table[:, :-1], table[:, 1:]
        there = low < high
        # From the smaller tail.
        a, b = np.where(low + high > 0, -high, low), np.where(low + high > 0, -low, high)
        mass = np.where(there, exact_norm.cdf(b) - exact_norm.cdf(a), 0.0)
        half = exact_norm.ppf(np.clip(exact_norm.cdf(a) + mass / 2, 1e-300, 1.0))
        middle = np.where(there, np.where(low + high > 0, -half, half), 0.0)
        log_mass = np.where(there, np.log(np.maximum(mass, 1e-300)), -NONE)
        ends_of = np.minimum(table[:, 1:-1], NONE)
        return cls(*(jnp.asarray(x, jnp.float32) for x in (ends_of, log_mass, middle)))

    def of(self, places: Int[Array, " some"]) -> "Cells":
        """Of these columns, in this order."""
        return jax.tree.map(lambda x: x[places], self)

    def level(self, y: Float[Array, " columns"]) -> Int[Array, " columns"]:
        """At which level each coordinate lies."""
        return at_most(self.ends, y)

    def told(self, level: Int[Array, " columns"]) -> Float[Array, " columns"]:
        """A coordinate for each level, the same wherever in it a value lies."""
        return self.middle[jnp.arange(len(level)), level]

    def chosen(self, level: Int[Array, " columns"]) -> Float[Array, "columns levels"]:
        """Which of the levels it is, as ones and zeros."""
        return jax.nn.one_hot(level, self.middle.shape[1])

    def log_prob(
        self, y: Float[Array, " columns"], shift: Float[Array, "columns levels"]
    ) -> Float[Array, " columns"]:
        """The log-density of each coordinate; `shift` of the log of each level's share.

        Where the shift is 0 it is that of N(0, 1).
        """
        level, columns = self.level(y), jnp.arange(len(y))
        of_all = jax.nn.logsumexp(self.log_mass + shift, axis=1)
        return shift[columns, level] - of_all - 0.5 * y**2 - 0.5 * LOG_2PI

    def log_prob_between(
        self, y: Float[Array, " columns"], rising: Callable[[Array], Array]
    ) -> Float[Array, " columns"]:
        """The log-density of each coordinate; a level's share is what `rising` leaves of N(0, 1).

        Where that is the identity it is N(0, 1)'s.

        Args:
            y: the coordinates.
            rising: a map of coordinates, one a column, of R onto R.
        """
        level, columns = self.level(y), jnp.arange(len(y))
        lowest, highest = level == 0, self._end(level) >= NONE
        low = rising(jnp.where(lowest, 0.0, self.ends[columns, jnp.maximum(level - 1, 0)]))
        high = rising(jnp.where(highest, 0.0, self._end(level)))
        low, high = jnp.where(lowest, -FAR, low), jnp.where(highest, FAR, high)
        log_share = log_mass_between(low, high) - self.log_mass[columns, level]
        return log_share - 0.5 * y**2 - 0.5 * LOG_2PI

    def _end(self, level: Int[Array, " columns"]) -> Float[Array, " columns"]:
        """The upper end of a level; `NONE` of the highest."""
        ends = jnp.pad(self.ends, ((0, 0), (0, 1)), constant_values=NONE)
        return ends[jnp.arange(len(level)), level]

    def draw(
        self, key: PRNGKeyArray, shift: Float[Array, "rows levels"], place: Int[Array, ""]
    ) -> Float[Array, " rows"]:
        """A coordinate of one column for each row; `shift` as in `log_prob`."""
        pick_key, key = jax.random.split(key)
        return self.within(
            key, jax.random.categorical(pick_key, self.log_mass[place] + shift), place
        )

    def within(
        self, key: PRNGKeyArray, level: Int[Array, " rows"], place: Int[Array, ""]
    ) -> Float[Array, " rows"]:
        """A coordinate of N(0, 1) in each of these levels of one column."""
        edge = jnp.full(1, jnp.inf)
        ends = jnp.concatenate([-edge, self.ends[place], edge])
        low, high = ends[level], ends[level + 1]
        turned = low + high > 0
        a, b = jnp.where(turned, -high, low), jnp.where(turned, -low, high)
        p, q = ndtr(a), ndtr(b)
        y = ndtri(p + jax.random.uniform(key, level.shape, minval=1e-7) * (q - p))
        y = jnp.where(turned, -y, y)
        return jnp.clip(y, low, jnp.nextafter(high, -jnp.inf))


def log_mass_between(low: Array, high: Array) -> Array:
    """The log of the mass of N(0, 1) between two numbers, from the smaller tail."""
    turned = low + high > 0
    a, b = jnp.where(turned, -high, low), jnp.where(turned, -low, high)
    narrow = b - a < NARROW
    middle, width = 0.5 * (a + b), jnp.maximum(jnp.where(narrow, b - a, 1.0), 1e-12)
    flat = jnp.log(width) - 0.5 * middle**2 - 0.5 * LOG_2PI
    top, bottom = log_ndtr(b), log_ndtr(jnp.where(narrow, b - 1.0, a))
    return jnp.where(narrow, flat, top + jnp.log1p(-jnp.exp(bottom - top)))


class FoundCells(NamedTuple):
    """The columns of a table that lie in cells.

    Attributes:
        few, many: their cells.
        of_few, of_many: which columns these are, increasing.
    """

    few: Cells
    of_few: np.ndarray
    many: Cells
    of_many: np.ndarray

    @property
    def shapes(self) -> tuple[int, ...]:
        """Columns and room for ends, of many cells and of few, as in `specs.ModelSpec`."""
        return (*self.many.ends.shape, *self.few.ends.shape)


def cells_of(units: Units, values: np.ndarray, steps: np.ndarray) -> FoundCells | None:
    """The cells of the columns that have some.

    None where no column has, or where units do not make columns normal.

    Args:
        units: of the rows.
        values: `[rows, dim]`, the lower ends of cells.
        steps: `[dim]`, their widths; 0 where a column has none.
    """
    if not isinstance(units, Gaussianise | Histogram | HeavyTailed):
        return None
    low, step = values.min(axis=0).astype(np.float64), steps.astype(np.float64)
    counts = np.rint(np.ptp(values, axis=0) / np.where(step > 0, step, 1.0)).astype(int) + 1
    places = np.flatnonzero((step > 0) & (counts <= MOST))
    if not len(places):
        return None
    x = low + step * np.arange(int(counts[places].max()) + 1)[:, None]
    y: Any = jax.jit(jax.vmap(units.encode))(jnp.asarray(x, jnp.float32))
    y = np.asarray(y, np.float64)
    few, many = places[counts[places] <= FEW], places[counts[places] > FEW]
    ends = [[y[: counts[i] + 1, i] for i in some] for some in (few, many)]
    return FoundCells(Cells.between(ends[0]), few, Cells.between(ends[1]), many)
