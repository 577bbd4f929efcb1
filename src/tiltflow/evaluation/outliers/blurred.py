"""Densities of blurred rows: the mean of normal densities about some rows, the centres.

A log-density is paid without limit for thin directions and for values that repeat; that of rows
plus noise is not. Noise of one size gives p_s; of a size that follows the neighbours, p_h.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from tiltflow.evaluation.outliers.distances import parts, squared_distances

LOG_2PI = float(np.log(2 * np.pi))
NEIGHBOUR = 10  # whose distance is r
LEAST_SQUARE = 1e-4  # of r, where rows repeat


class Blurred(NamedTuple):
    """Normal densities about centres, of equal weight.

    Attributes:
        centres: `[centres, columns]`.
        widths: `[centres]`, standard deviations, the same in every column.
    """

    centres: np.ndarray
    widths: np.ndarray

    def energy(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
        """-log density of each row, in nats."""
        return self._energy(z, itself=False)

    def energy_held_out(self) -> Float[np.ndarray, " centres"]:
        """-log density of each centre by the other centres."""
        return self._energy(self.centres, itself=True)

    def by_column(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
        """sum_i r_i (z_j - z_ij)^2 / (2 h_i^2), r_i the shares of the centres in the density.

        What the shares themselves cost, sum r log r and the rest, belongs to no column.
        """
        found = np.empty_like(z)
        for some in parts(len(z), len(self.centres)):
            logs = self._logs(z[some])
            weights = np.exp(logs - logsumexp(logs, axis=1, keepdims=True)) / (2 * self.widths**2)
            squares = z[some] ** 2 * weights.sum(axis=1, keepdims=True)
            squares += weights @ self.centres**2 - 2 * z[some] * (weights @ self.centres)
            found[some] = np.maximum(squares, 0.0)
        return found

    def _energy(self, z: np.ndarray, *, itself: bool) -> np.ndarray:
        found = np.empty(len(z))
        for some in parts(len(z), len(self.centres)):
            logs = self._logs(z[some])
            if itself:
                rows = np.arange(len(logs))
                logs[rows, rows + some.start] = -np.inf
            found[some] = np.log(len(self.centres) - itself) - logsumexp(logs, axis=1)
        return found

    def _logs(self, z: np.ndarray) -> np.ndarray:
        """log N(z; centre, width^2 I), `[rows, centres]`."""
        dim = z.shape[1]
        level = dim * (np.log(self.widths) + 0.5 * LOG_2PI)
        return squared_distances(z, self.centres) / (-2 * self.widths**2) - level


def with_noise(centres: Float[np.ndarray, "centres columns"], noise: float) -> Blurred:
    """p_s: the density of rows among the centres plus N(0, noise^2 I)."""
    return Blurred(centres, np.full(len(centres), noise))


def as_neighbours_are(centres: Float[np.ndarray, "centres columns"]) -> Blurred:
    """p_h: each centre is as wide as r / (2 sqrt columns), r the distance of its 10th neighbour."""
    nearest = min(NEIGHBOUR, len(centres) - 1)
    squares = np.empty(len(centres))
    for some in parts(len(centres), len(centres)):
        apart = squared_distances(centres[some], centres)
        rows = np.arange(len(apart))
        apart[rows, rows + some.start] = np.inf
        squares[some] = np.partition(apart, nearest - 1, axis=1)[:, nearest - 1]
    r = np.sqrt(np.maximum(squares, LEAST_SQUARE))
    return Blurred(centres, r / (2 * np.sqrt(centres.shape[1])))
