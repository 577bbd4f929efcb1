"""A normal density behind the columns: of what lies in cells it has the mass, in the cell's noise.

Each column is told by a number z, and all z together are normal (Hoff 2007, arXiv math/0610383). Of
a continuous column z is the coordinate; of one in cells no more is known than the interval that z
lies in, which has the mass of its cell. Labels without an order are put into one.

The mass of a box of many intervals is no closed form. So columns come one after the other, as in
every density here that is easy to draw from: given the cells before it a z is taken for normal with
the moments that it has, and the density is the product of what each then has between its ends
(assumed-density filtering, as in Minka 2001, arXiv 1301.2294). That is a density of its own, whose
integral is 1 and whose draws are exact, close to the copula.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import ndtr, ndtri

from tiltflow.backbones.base import LOG_2PI
from tiltflow.backbones.cells import FAR, NARROW, NONE, Cells, log_mass_between
from tiltflow.backbones.density import Density

LEAST_VARIANCE = 1e-5  # of z given what came before


class OrderedCells(Cells):
    """Cells, and the interval of z that each level stands for; none of it is learned.

    Attributes:
        low, high: `[columns, levels]`, of N(0, 1).
    """

    low: Float[Array, "columns levels"]
    high: Float[Array, "columns levels"]

    @classmethod
    def of_orders(cls, cells: Cells, orders: list[np.ndarray | None]) -> "OrderedCells":
        """Cells whose levels are put into an order, column by column; None: their own.

        Args:
            cells: of the columns.
            orders: the levels that were seen, 1 to K, as they follow one another.
        """
        log_mass = np.asarray(cells.log_mass, np.float64)
        ends = np.full((2, *log_mass.shape), FAR)
        for column, (row, order) in enumerate(zip(log_mass, orders, strict=True)):
            mass = np.where(row > -NONE / 2, np.exp(row), 0.0)
            some = np.flatnonzero(mass > 0)
            if order is not None:
                some = np.concatenate([some[:1], order, some[-1:]])
            below = np.concatenate([[0.0], np.cumsum(mass[some])])
            above = np.concatenate([np.cumsum(mass[some][::-1])[::-1], [0.0]])
            z = np.where(below < above, ndtri(below), -ndtri(above))
            z = np.clip(z, -FAR, FAR)
            ends[0, column, some], ends[1, column, some] = z[:-1], z[1:]
        low, high = (jnp.asarray(x, jnp.float32) for x in ends)
        return cls(cells.ends, cells.log_mass, cells.middle, low, high)

    @classmethod
    def nothing(cls, columns: int, ends: int) -> "OrderedCells":
        """Arrays of these shapes."""
        plain = Cells.nothing(columns, ends)
        return cls(plain.ends, plain.log_mass, plain.middle, plain.middle, plain.middle)


class _Believed(NamedTuple):
    """What is known of the z of all columns in cells: their mean and covariance."""

    mean: Array
    covariance: Array


class CopulaDensity(Density):
    """Continuous columns are normal; then come columns in cells.

    Attributes:
        mean, log_scale: of the continuous columns.
        raw: `[dim, dim]`, below its diagonal and the logarithm of that: rows scaled to norm 1 are
            the Cholesky factor of the correlation of z.
        cells: of the columns that come last.
        order: of the coordinates, the continuous ones first.
    """

    mean: Float[Array, " free"]
    log_scale: Float[Array, " free"]
    raw: Float[Array, "dim dim"]
    cells: OrderedCells
    order: Int[Array, " dim"]

    def log_prob(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density, in nats."""
        ordered, free, factor = y[self.order], len(self.mean), self._factor()
        scaled = (ordered[:free] - self.mean) * jnp.exp(-self.log_scale)
        u = solve_triangular(factor[:free, :free], scaled, lower=True)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor)[:free])) + jnp.sum(self.log_scale)
        found = -0.5 * jnp.sum(u**2) - 0.5 * free * LOG_2PI - log_det
        inside = ordered[free:]
        level = self.cells.level(inside)

        def one_more(believed: _Believed, place: Array) -> tuple[_Believed, Array]:
            believed, log_mass = self._seen(believed, place, level[place])
            return believed, log_mass - self.cells.log_mass[place, level[place]]

        places = jnp.arange(len(inside))
        _, log_shares = jax.lax.scan(one_more, self._believed(factor, u), places)
        return found + jnp.sum(log_shares - 0.5 * inside**2 - 0.5 * LOG_2PI)

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """So many independent draws, one column in cells after the other."""
        free_key, key = jr.split(key)
        free, factor, columns = len(self.mean), self._factor(), len(self.cells.ends)
        u = jr.normal(free_key, (number, free))
        y = self.mean + jnp.exp(self.log_scale) * (u @ factor[:free, :free].T)
        believed = jax.vmap(lambda u: self._believed(factor, u))(u)

        def one_more(believed: _Believed, given: tuple[Array, Array]) -> tuple[_Believed, Array]:
            place, key = given
            z_key, key = jr.split(key)
            scale = jnp.sqrt(_variance(believed.covariance[:, place, place]))
            z = believed.mean[:, place] + scale * jr.normal(z_key, (number,))
            z = jnp.clip(z, -0.9 * FAR, 0.9 * FAR)[:, None]
            level = jnp.argmax((z >= self.cells.low[place]) & (z < self.cells.high[place]), axis=1)
            believed, _ = jax.vmap(lambda b, level: self._seen(b, place, level))(believed, level)
            return believed, self.cells.within(key, level, place)

        given = jnp.arange(columns), jr.split(key, columns)
        _, inside = jax.lax.scan(one_more, believed, given)
        return jnp.concatenate([y, inside.T], axis=1)[:, jnp.argsort(self.order)]

    def _factor(self) -> Array:
        """The Cholesky factor of the correlation of z, as the columns are ordered."""
        factor = jnp.tril(self.raw, -1) + jnp.diag(jnp.exp(jnp.diagonal(self.raw)))
        return factor / jnp.linalg.norm(factor, axis=1, keepdims=True)

    def _believed(self, factor: Array, u: Array) -> _Believed:
        """What continuous columns say of the others."""
        free = len(self.mean)
        left = factor[free:, free:]
        return _Believed(factor[free:, :free] @ u, left @ left.T)

    def _seen(self, believed: _Believed, place: Array, level: Array) -> tuple[_Believed, Array]:
        """What is believed once a column's level is known; the log of the mass that it had."""
        mean, covariance = believed
        scale = jnp.sqrt(_variance(covariance[place, place]))
        low, high = (
            (end[place, level] - mean[place]) / scale for end in (self.cells.low, self.cells.high)
        )
        log_mass, shift, variance = moments_between(low, high)
        slope = covariance[:, place] / scale
        return _Believed(
            mean + slope * shift, covariance + (variance - 1) * jnp.outer(slope, slope)
        ), log_mass


def _variance(of: Array) -> Array:
    return jnp.maximum(of, LEAST_VARIANCE)


def moments_between(low: Array, high: Array) -> tuple[Array, Array, Array]:
    """The log-mass of N(0, 1) between two numbers, and the mean and the variance there."""
    log_mass = log_mass_between(low, high)
    narrow = high - low < NARROW
    width, middle = high - low, 0.5 * (low + high)
    at_low, at_high = (
        jnp.exp(jnp.where(narrow, 0.0, -0.5 * end**2 - 0.5 * LOG_2PI - log_mass))
        for end in (low, high)
    )
    mean = at_low - at_high
    variance = 1 + low * at_low - high * at_high - mean**2
    flat = width**2 / 12
    mean = jnp.where(narrow, middle * (1 - flat), mean)
    variance = jnp.where(narrow, flat, variance)
    return log_mass, mean, jnp.clip(variance, 0.0, 1.0)


def at_rows(
    y: Float[np.ndarray, "rows dim"], free: int, cells: OrderedCells, order: np.ndarray
) -> CopulaDensity:
    """The density with the moments of rows, as far as they are known of what lies in cells.

    With m(cell) the mean of z there, and v the variance of m, two columns have a covariance of m of
    about v v' times the correlation of their z.

    Args:
        y: coordinates.
        free: how many columns are continuous.
        cells: of the others.
        order: of the coordinates, the continuous ones first.
    """
    ordered = y[:, order]
    z = np.empty_like(ordered)
    mean, scale = ordered[:, :free].mean(axis=0), np.maximum(ordered[:, :free].std(axis=0), 1e-3)
    z[:, :free] = (ordered[:, :free] - mean) / scale
    ends = np.asarray(cells.ends)
    low, high = (np.asarray(end, np.float64) for end in (cells.low, cells.high))
    mass = np.maximum(ndtr(high) - ndtr(low), 1e-12)
    density = [np.exp(-0.5 * end**2 - 0.5 * LOG_2PI) for end in (low, high)]
    told = (density[0] - density[1]) / mass
    for place, column in enumerate(ordered[:, free:].T):
        level = np.searchsorted(ends[place], column, side="right")
        z[:, free + place] = told[place, level]
    z -= z.mean(axis=0)
    variance = np.maximum(z.var(axis=0), 1e-3)
    correlation = np.clip(z.T @ z / len(z) / np.outer(variance, variance), -0.98, 0.98)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    covariance = (vectors * np.maximum(values, 0.02)) @ vectors.T
    deviation = np.sqrt(np.diag(covariance))
    factor = np.linalg.cholesky(covariance / np.outer(deviation, deviation))
    raw = np.tril(factor, -1) + np.diag(np.log(np.diag(factor)))
    of_free, log_scale, raw = (jnp.asarray(x, jnp.float32) for x in (mean, np.log(scale), raw))
    return CopulaDensity(of_free, log_scale, raw, cells, jnp.asarray(order))
