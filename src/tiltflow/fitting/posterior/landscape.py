"""Which draws hang together: parts of a density that no path through it connects.

Some draws far from one another are taken as seeds; the most probable draw near each is its summit.
Paths between summits are straight in the latent space, and the density itself is evaluated along
them: two summits are of one part if a chain of paths leads from the one to the other on which it
falls by less than `DIP` nats below the lower of them (persistence: Chazal, Guibas, Oudot and Skraba
2013, "Persistence-based clustering in Riemannian manifolds", section 3). How the components of a
mixture overlap does not matter: a light broad one may lie over two modes, and joins nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist

Along = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Rows w `[n, dim]` to rows of the density's own space `[n, dim]`, and log-densities of w `[n]`."""

DIP = 1.5  # nats
SEEDS = 48
LOOKED_AT = 4_000  # draws among which seeds are chosen
POINTS, FINER = 9, 7  # of a path, and more of them in its longest step
NEIGHBOURS, ROUNDS, MOST_PAIRS = 4, 3, 60


class Landscape(NamedTuple):
    """Parts of a density.

    Attributes:
        summits: rows w, latent ones over `factor`, beside y over `spread`, `[summits, 2 dim]`.
        parts: the part of each, `[summits]`, from 0 on.
        factor: `[dim, dim]`, lower triangular.
        spread: of the y within parts, `[dim]`.
        cost: evaluations that it took.
    """

    summits: np.ndarray
    parts: np.ndarray
    factor: np.ndarray
    spread: np.ndarray
    cost: int

    def labels(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The part of each row: that of the summit nearest in both spaces together, `[n]`.

        Args:
            z, y: the same rows `[n, dim]` in the latent space and in the density's own.
        """
        rows = np.concatenate([self.over(z), y / self.spread], axis=1)
        return self.parts[_nearest(rows, self.summits)]

    def over(self, z: np.ndarray) -> np.ndarray:
        """Rows w of latent rows `[..., dim]`."""
        return _over(self.factor, z.reshape(-1, z.shape[-1]).astype(np.float64)).reshape(z.shape)


def surveyed(
    z: np.ndarray,
    y: np.ndarray,
    density: np.ndarray,
    factor: np.ndarray,
    along: Along,
    rng: np.random.Generator,
    seeds: int = SEEDS,
) -> Landscape:
    """The parts of a density, from draws and from what it is between them.

    Args:
        z, y: latent rows and the same in the density's own space, `[n, dim]`.
        density: the latent log-density at each, `[n]`, up to a constant.
        factor: of a covariance that tells near from far, `[dim, dim]`.
        along: evaluates the density at rows w, that is at factor w.
        rng: random numbers.
        seeds: how many, at most.
    """
    chosen = rng.choice(len(z), min(len(z), LOOKED_AT), replace=False)
    w, y, density = _over(factor, z[chosen]), y[chosen], density[chosen]
    seeds_at = far_apart(w, min(seeds, len(w)), rng)
    cell = _nearest(w, w[seeds_at])
    summits = np.array(
        [np.flatnonzero(cell == k)[np.argmax(density[cell == k])] for k in range(len(seeds_at))]
    )
    top, height = w[summits], density[summits]
    pairs = _neighbours(top)
    lowest, cost = saddles(top, pairs, along)
    parts = merged(height, pairs, lowest)
    for _ in range(ROUNDS):
        more = _between(top, height, parts, pairs)
        if not len(more):
            break
        found, spent = saddles(top, more, along)
        pairs, lowest = np.concatenate([pairs, more]), np.append(lowest, found)
        cost, before, parts = cost + spent, parts, merged(height, pairs, lowest)
        if parts.max() == before.max():
            break
    spread = _spread_within(y, parts[cell])
    both = np.concatenate([top, y[summits] / spread], axis=1)
    return Landscape(both, parts, factor, spread, cost)


def merged(height: np.ndarray, pairs: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """The part of each summit, `[n]`, numbers from 0 on.

    Args:
        height: log-densities of summits, `[n]`.
        pairs: of summits with a path between them, `[paths, 2]`.
        lowest: the lowest log-density along each path, its ends included, `[paths]`.
    """
    number, peak = np.arange(len(height)), height.copy()
    for path in np.argsort(-lowest, kind="stable"):
        first, second = (number[end] for end in pairs[path])
        if first != second and min(peak[first], peak[second]) - lowest[path] < DIP:
            peak[first] = max(peak[first], peak[second])
            number[number == second] = first
    return np.unique(number, return_inverse=True)[1]


def _over(factor: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.asarray(solve_triangular(factor, z.T, lower=True)).T


def _nearest(rows: np.ndarray, among: np.ndarray, part: int = 8_192) -> np.ndarray:
    """The number of the nearest of `among` to each row."""
    return np.concatenate(
        [
            np.argmin(cdist(rows[first : first + part], among, "sqeuclidean"), axis=1)
            for first in range(0, len(rows), part)
        ]
    )


def _spread_within(y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The typical distance of rows y `[n, dim]` from the median of their part, `[dim]`."""
    away = np.empty_like(y)
    for part in np.unique(labels):
        away[labels == part] = np.abs(y[labels == part] - np.median(y[labels == part], axis=0))
    return np.maximum(1.48 * np.median(away, axis=0), 1e-12)


def far_apart(w: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Rows chosen one after the other, by their squared distance to those chosen before."""
    chosen = [int(rng.integers(len(w)))]
    away = np.sum((w - w[chosen[0]]) ** 2, axis=1)
    while len(chosen) < number and away.sum() > 0:
        # An outlier is far from all: distances are cut, or it would be all that is chosen.
        weight = np.minimum(away, 9.0 * np.median(away) + 1e-12)
        chosen.append(int(rng.choice(len(w), p=weight / weight.sum())))
        away = np.minimum(away, np.sum((w - w[chosen[-1]]) ** 2, axis=1))
    return np.array(chosen)


def _neighbours(top: np.ndarray) -> np.ndarray:
    away = cdist(top, top)
    near = np.argsort(away, axis=1)[:, 1 : NEIGHBOURS + 1]
    pairs = {(min(i, j), max(i, j)) for i, row in enumerate(near.tolist()) for j in row if i != j}
    return np.array(sorted(pairs), int).reshape(-1, 2)


def _between(
    top: np.ndarray, height: np.ndarray, parts: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Pairs that have no path yet: of two parts the nearest summits, and the highest ones."""
    have = {tuple(pair) for pair in known.tolist()}
    away, found = cdist(top, top), []
    for a in range(parts.max() + 1):
        for b in range(a):
            of_a, of_b = np.flatnonzero(parts == a), np.flatnonzero(parts == b)
            block = away[np.ix_(of_a, of_b)]
            i, j = np.unravel_index(np.argmin(block), block.shape)
            near = int(of_a[i]), int(of_b[j])
            high = int(of_a[np.argmax(height[of_a])]), int(of_b[np.argmax(height[of_b])])
            for pair in {near, high}:
                ordered = min(pair), max(pair)
                if ordered not in have:
                    found.append((block.min(), *ordered))
    found.sort()
    return np.array([pair[1:] for pair in found[:MOST_PAIRS]], int).reshape(-1, 2)


def saddles(top: np.ndarray, pairs: np.ndarray, along: Along) -> tuple[np.ndarray, int]:
    """The lowest log-density along each path, and how many evaluations that took.

    A flow may squeeze what lies between two modes into a short piece of a path: where a step is
    longest in the density's own space, more points are looked at.
    """
    if not len(pairs):
        return np.empty(0), 0
    first, last = top[pairs[:, 0]], top[pairs[:, 1]]
    share = np.linspace(0.0, 1.0, POINTS + 2)
    rows = first[:, None] + share[:, None] * (last - first)[:, None]
    y, value = along(rows.reshape(-1, rows.shape[2]))
    y = y.reshape(rows.shape)
    spread = np.maximum(y.reshape(-1, top.shape[1]).std(axis=0), 1e-12)
    step = np.argmax(np.sum((np.diff(y, axis=1) / spread) ** 2, axis=2), axis=1)
    within = np.arange(1, FINER + 1) / (FINER + 1) / (POINTS + 1)
    inside = (share[step][:, None] + within)[..., None]
    finer = first[:, None] + inside * (last - first)[:, None]
    _, more = along(finer.reshape(-1, rows.shape[2]))
    values = np.concatenate([value.reshape(len(pairs), -1), more.reshape(len(pairs), -1)], axis=1)
    low = np.min(np.where(np.isnan(values), -np.inf, values), axis=1)
    return low, values.size
