"""Normal components given cells: some columns lie in boxes, others anywhere.

A component draws its columns one after the other, those in boxes first, each from its normal
density given the ones before, cut at the ends of its box: the sampler of Geweke, Hajivassiliou and
Keane (Genz 1992, "Numerical computation of multivariate normal probabilities"). What it draws is a
rising map of normal noise, column by column, and its density is known: that of the component, over
the masses of the boxes on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_ndtr, ndtr, ndtri

from tiltflow.model.completion.rough import Mixture, given
from tiltflow.model.completion.rows import Seen

LEAST_SHARE = 1e-3  # of a component, given what is seen
LOOKS = 16  # draws of a component, that tell the mass of a row's boxes
LOG_2PI = np.log(2 * np.pi)
RARE = 1e-12  # mass below which its logarithm is found by those of the two tails
EDGE = 1e-15  # of (0, 1), that a share of a box's mass stays within


class Boxed(NamedTuple):
    """K normal components of some columns of a row.

    Attributes:
        order: `[n]`, the columns: those in boxes, then those that are missing.
        low, high: `[boxes]`, the ends of boxes.
        log_weights: `[K]`, normalised.
        means: `[K, n]`.
        factors, whiteners: `[K, n, n]`, lower triangular, the inverses of one another.
    """

    order: Int[np.ndarray, " n"]
    low: np.ndarray
    high: np.ndarray
    log_weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    whiteners: np.ndarray

    def picked(self, number: int, rng: np.random.Generator) -> Int[np.ndarray, " number"]:
        """So many components, by their weights."""
        return one_of(np.exp(self.log_weights), number, rng)

    def at(
        self, k: Int[np.ndarray, " some"], noise: Float[np.ndarray, "some n"]
    ) -> Float[np.ndarray, "some n"]:
        """The values that components make of normal noise."""
        each = self.means[k], self.factors[k], self.low, self.high, noise[:, None]
        return _made(*each)[:, 0]

    def each(self, values: Float[np.ndarray, "some n"]) -> Float[np.ndarray, "K some"]:
        """The log of weight times density under each component."""
        n = len(self.order)
        z, log_masses = _whitened(self, values)
        log_det = np.sum(np.log(np.diagonal(self.factors, axis1=1, axis2=2)), axis=1)
        density = -0.5 * np.sum(z**2, axis=-1) - 0.5 * n * LOG_2PI - log_masses
        return (self.log_weights - log_det)[:, None] + density

    def noise_of(
        self, k: Int[np.ndarray, " some"], values: Float[np.ndarray, "some n"]
    ) -> Float[np.ndarray, "some n"]:
        """What components make these values of: the inverse of `at`."""
        boxes, scale = len(self.low), np.diagonal(self.factors, axis1=1, axis2=2)[k]
        z = np.einsum("sij,sj->si", self.whiteners[k], values - self.means[k], optimize=True)
        a, b = _ends(values, z, scale, self.low, self.high)
        z[:, :boxes] = ndtri(np.clip(_share(a, b, z[:, :boxes]), EDGE, 1 - EDGE))
        return z


def boxed(
    of: Mixture, seen: Seen, missing: Bool[np.ndarray, " dim"], rng: np.random.Generator
) -> Iterator[Boxed]:
    """The components of `of` given each of some rows, all with one pattern.

    Args:
        of: of whole rows.
        seen: what is there of the rows; they lie in cells in the same columns.
        missing: the columns that are missing.
        rng: of the draws that tell masses of boxes.
    """
    cells = seen.width[0] > 0
    places = np.flatnonzero(cells | missing)
    order = np.argsort(missing[places], kind="stable")
    columns, boxes = places[order], int(cells.sum())
    left = given(of, seen.middle, cells | missing)
    if left.covariances.ndim == 2:
        factors = np.stack([np.diag(np.sqrt(one[order])) for one in left.covariances])
    else:
        factors = np.linalg.cholesky(left.covariances[:, order[:, None], order])
    whiteners = np.linalg.inv(factors)
    noise = rng.standard_normal((1, LOOKS, boxes))
    for row, log_weights in enumerate(left.log_weights):
        low = seen.low[row, columns[:boxes]]
        high = low + seen.width[row, columns[:boxes]]
        whole = Boxed(
            columns, low, high, log_weights, left.means[row][:, order], factors, whiteners
        )
        yield _pruned(
            whole, log_weights + _log_mass_of_boxes(whole, noise) if boxes else log_weights
        )


def _pruned(of: Boxed, log_weights: np.ndarray) -> Boxed:
    """The components that count with these weights."""
    kept = np.flatnonzero(log_weights >= np.max(log_weights) + np.log(LEAST_SHARE))
    left = log_weights[kept]
    return of._replace(
        log_weights=left - np.logaddexp.reduce(left),
        means=of.means[kept],
        factors=of.factors[kept],
        whiteners=of.whiteners[kept],
    )


def _log_mass_of_boxes(of: Boxed, noise: Float[np.ndarray, "1 looks boxes"]) -> np.ndarray:
    """Of each component, as far as a few draws tell it, `[K]`."""
    boxes = len(of.low)
    inside = of._replace(
        means=of.means[:, :boxes],
        factors=of.factors[:, :boxes, :boxes],
        whiteners=of.whiteners[:, :boxes, :boxes],
    )
    noise = np.broadcast_to(noise, (len(of.means), *noise.shape[1:]))
    values = _made(inside.means, inside.factors, of.low, of.high, noise)
    log_masses = _whitened(inside, values)[1]
    return np.logaddexp.reduce(log_masses, axis=1) - np.log(noise.shape[1])


def _made(
    mean: Float[np.ndarray, "c n"],
    factor: Float[np.ndarray, "c n n"],
    low: Float[np.ndarray, " boxes"],
    high: Float[np.ndarray, " boxes"],
    noise: Float[np.ndarray, "c s n"],
) -> Float[np.ndarray, "c s n"]:
    """Values of noise, column by column."""
    boxes, z = len(low), np.array(noise, np.float64)
    share = np.clip(ndtr(z[..., :boxes]), EDGE, 1 - EDGE)
    for i in range(boxes):
        centre = mean[:, None, i] + np.einsum("cj,csj->cs", factor[:, i, :i], z[..., :i])
        scale = factor[:, None, i, i]
        z[..., i] = _between((low[i] - centre) / scale, (high[i] - centre) / scale, share[..., i])
    values = mean[:, None] + z @ factor.swapaxes(1, 2)
    values[..., :boxes] = np.clip(values[..., :boxes], low, high)
    return values


def _whitened(of: Boxed, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The noise behind values `[some, n]` or `[K, some, n]`, and the log-mass of their boxes."""
    if values.ndim == 2:  # one product of matrices
        origin = np.einsum("kij,kj->ki", of.whiteners, of.means)
        z = np.tensordot(values, of.whiteners, (1, 2)).swapaxes(0, 1) - origin[:, None]
    else:
        z = (values - of.means[:, None]) @ of.whiteners.swapaxes(1, 2)
    scale = np.diagonal(of.factors, axis1=1, axis2=2)[:, None]
    return z, log_mass(*_ends(values, z, scale, of.low, of.high)).sum(axis=-1)


def _ends(
    values: np.ndarray, z: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of boxes in units of each column's noise given the columns before it."""
    boxes = len(low)
    scale = scale[..., :boxes]
    centre = values[..., :boxes] - z[..., :boxes] * scale
    return (low - centre) / scale, (high - centre) / scale


def log_mass(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log of the mass of N(0, 1) between two numbers, by the smaller tail."""
    a, b, _ = _turned(a, b)
    mass = ndtr(b) - ndtr(a)
    rare = mass < RARE
    found = np.log(np.where(rare, 1.0, mass))
    above, below = log_ndtr(b[rare]), log_ndtr(a[rare])
    found[rare] = above + np.log1p(-np.exp(np.minimum(below - above, -1e-12)))
    return found


def _between(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The number between a and b that has this share of the mass there below it."""
    a, b, turned = _turned(a, b)
    below = ndtr(a)
    mass = below + np.where(turned, 1 - share, share) * (ndtr(b) - below)
    z = np.clip(ndtri(np.clip(mass, 1e-300, 1 - 1e-16)), a, b)
    return np.where(turned, -z, z)


def _share(a: np.ndarray, b: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The inverse of `_between`."""
    a, b, turned = _turned(a, b)
    below = ndtr(a)
    share = (ndtr(np.where(turned, -z, z)) - below) / np.maximum(ndtr(b) - below, 1e-300)
    return np.where(turned, 1 - share, share)


def _turned(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An interval, or its mirror image, whichever lies to the left; and which."""
    turned = a > 0
    return np.where(turned, -b, a), np.where(turned, -a, b), turned


def one_of(
    weights: Float[np.ndarray, " K"], number: int, rng: np.random.Generator
) -> Int[np.ndarray, " number"]:
    """So many of K, with probabilities in proportion to their weights."""
    below = np.cumsum(weights)
    return np.minimum(np.searchsorted(below, rng.random(number) * below[-1]), len(below) - 1)
