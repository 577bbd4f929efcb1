"""Power tails of a column: how values go on beyond a high quantile, by maximum likelihood.

Exceedances e over a threshold u follow a generalised Pareto distribution in the limit, for nearly
every distribution there is (Pickands 1975; Balkema and de Haan 1974):

    P(X > u + e) = mass * (1 + shape * e / scale)^(-1 / shape).

A shape above 0 is a power tail, of index 1 / shape: the variance is infinite from 1/2 on, the mean
from 1. Its likelihood is maximised over shape / scale alone (Grimshaw 1993): at a given ratio r the
best shape is the mean of log(1 + r e).

Beyond the cells of values on a grid, beyond integers, and where one row lies far beyond all others,
the next value may be any: there the tail is one of a set shape, so that what no training row has is
unlikely, and not impossible.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri_exp
from scipy.stats import norm

from tiltflow.backbones.units.bijections import TAIL
from tiltflow.backbones.units.histogram import MARGIN, best_bins, cell_bins

SHARE = 0.05  # of the rows that lie in a tail
FEWEST, MOST = 20, 1_000  # of them
BEYOND_DOUBT = 2.0  # standard errors of the shape above 0: else a tail is no power
LEAST, LARGEST = 0.05, 5.0  # shapes
SET = 0.2  # the shape of tails that are not fitted: the fourth moment is finite
RATIOS = np.geomspace(1e-4, 1e4, 161)  # times 1 / mean exceedance


class Tail(NamedTuple):
    """One tail of a column.

    Attributes:
        start: where it begins.
        mass: the share of the rows beyond that.
        shape, scale: see above; a shape of 0 says that there is no power tail.
    """

    start: float
    mass: float
    shape: float
    scale: float


def upper_tail(column: np.ndarray) -> Tail | None:
    """The power tail of sorted values, on the side of the largest; None: it has none.

    The standard error of a shape s from k exceedances is (1 + s) / sqrt(k) (Smith 1987).
    """
    number = int(np.clip(SHARE * len(column), FEWEST, MOST))
    if 10 * number > len(column):
        return None
    start = float(column[-number - 1])
    exceedances = column[-number:] - start
    if not np.all(exceedances > 0):  # values that come back there
        return None
    shape, scale = fitted(exceedances)
    if shape < max(LEAST, BEYOND_DOUBT * (1 + shape) / np.sqrt(number)):
        return None
    return Tail(start, number / len(column), min(shape, LARGEST), scale)


def lower_tail(column: np.ndarray) -> Tail | None:
    """As `upper_tail`, on the side of the smallest."""
    found = upper_tail(-column[::-1])
    return None if found is None else found._replace(start=-found.start)


def fitted(exceedances: np.ndarray) -> tuple[float, float]:
    """Shape and scale of the largest likelihood among shapes above 0."""
    unit = float(np.mean(exceedances[exceedances <= np.median(exceedances)]))
    e = exceedances / unit
    ratios, centre, shape = RATIOS, 1.0, 1.0
    for _ in range(4):  # a grid, and finer ones about its best
        shapes = np.array([np.mean(np.log1p(r * e)) for r in ratios])
        best = int(np.argmin(np.log(shapes / ratios) + shapes))
        step = ratios[1] / ratios[0]
        centre, shape = ratios[best], shapes[best]
        ratios = centre * np.geomspace(1 / step, step, 21)
    return float(shape), float(unit * shape / centre)


class TailedBins(NamedTuple):
    """A histogram between two tails.

    Attributes:
        edges, shares: as `best_bins` has them, of what lies between the tails.
        tails: the lower and the upper one; None where it is normal, as those of `Histogram`.
    """

    edges: np.ndarray
    shares: np.ndarray
    tails: tuple[Tail | None, Tail | None] = (None, None)

    @property
    def masses(self) -> tuple[float, float]:
        """Of the lower and the upper tail."""
        lower, upper = (TAIL if tail is None else tail.mass for tail in self.tails)
        return lower, upper

    def normal_scores(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y and log dy/dx of each number, as `units.HeavyTailed` of these bins has them.

        In one look, without a compiled program, which would be another one for each number of rows.
        """
        masses = self.masses
        mass, width = (1 - sum(masses)) * self.shares, np.diff(self.edges)
        below = masses[0] + np.cumsum(mass) - mass
        inside = np.clip(column, self.edges[0], self.edges[-1])
        k = np.searchsorted(self.edges[1:-1], inside, side="right")
        lower = below[k] + (inside - self.edges[k]) / width[k] * mass[k]
        y = norm.ppf(np.clip(lower, masses[0], 1 - masses[1]))
        log_slope = np.log(mass[k] / width[k]) - norm.logpdf(y)
        y = y + (column - inside) * np.exp(log_slope)
        for tail, sign in zip(self.tails, (-1, 1), strict=True):
            if tail is None:
                continue
            out = sign * (column - inside) > 0
            grown = np.log1p(tail.shape * np.abs(column - inside)[out] / tail.scale)
            y[out] = -sign * ndtri_exp(np.log(tail.mass) - grown / tail.shape)
            log_density = np.log(tail.mass / tail.scale) - (1 + 1 / tail.shape) * grown
            log_slope[out] = log_density - norm.logpdf(y[out])
        return y, log_slope

    def log_density(self, column: np.ndarray) -> np.ndarray:
        """Of each number, nats."""
        y, log_slope = self.normal_scores(column)
        return norm.logpdf(y) + log_slope


def tailed_bins(column: np.ndarray) -> TailedBins:
    """The best histogram of a column, between the power tails that it has."""
    column = np.sort(np.asarray(column, np.float64))
    tails = lower_tail(column), upper_tail(column)
    low, high = (
        end if tail is None else tail.start
        for end, tail in zip(column[[0, -1]], tails, strict=True)
    )
    between = column[(column >= low) & (column <= high)]
    margins = tails[0] is None, tails[1] is None
    return TailedBins(*best_bins(between, margins=margins, local=True), tails)


def cells_between_tails(column: np.ndarray, step: float) -> TailedBins:
    """A bin for each cell of values on a grid; one row's share in a tail on either side."""
    edges, shares = cell_bins(column, step)
    inner = shares[1:-1] / shares[1:-1].sum()
    return between_tails(edges[1:-1], inner, step, (float(shares[0]), float(shares[-1])))


def between_tails(
    edges: np.ndarray, shares: np.ndarray, step: float, masses: tuple[float, float] = (TAIL, TAIL)
) -> TailedBins:
    """Bins of cells of width `step`, and tails of these masses that go on in steps as wide."""
    scale = max(step, MARGIN * float(edges[-1] - edges[0]))
    lower, upper = (
        Tail(float(end), mass, SET, scale) for end, mass in zip(edges[[0, -1]], masses, strict=True)
    )
    return TailedBins(edges, shares, (lower, upper))


def ended(bins: TailedBins, column: np.ndarray) -> TailedBins:
    """The same with a tail of the set shape on either side that has none, as wide as most rows."""
    low, high = np.quantile(column, [0.25, 0.75])
    scale = float(high - low) or float(np.ptp(bins.edges))
    lower, upper = (
        tail or Tail(float(end), TAIL, SET, scale)
        for tail, end in zip(bins.tails, bins.edges[[0, -1]], strict=True)
    )
    return bins._replace(tails=(lower, upper))
