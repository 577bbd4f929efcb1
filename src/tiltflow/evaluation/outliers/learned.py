"""A learned density of rows plus noise: Gaussian mixtures, each of which has not seen some rows.

The rows are dealt into folds, and a mixture is learned from all folds but one. What is scored is
the mean of their densities; a row that was learned from is scored by the mixture that has not seen
it, so that its energy can be compared with those of new rows.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from tiltflow.learning.gaussian_mixture import GaussianMixture
from tiltflow.learning.noised_mixture import noised_mixture

FOLDS = 3


class Learned(NamedTuple):
    """Mixtures of equal weight."""

    mixtures: tuple[GaussianMixture, ...]

    def energy(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
        """-log density of each row, in nats."""
        joint = np.concatenate([mixture.joint(z) for mixture in self.mixtures], axis=1)
        return np.log(len(self.mixtures)) - np.asarray(logsumexp(joint, axis=1))

    def energy_held_out(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
        """Of the rows that were learned from, in their order, by the mixture without them."""
        found = np.empty(len(z))
        for fold, mixture in enumerate(self.mixtures):
            found[fold :: len(self.mixtures)] = -mixture.log_prob(z[fold :: len(self.mixtures)])
        return found

    def by_column(self, z: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
        """sum_k r_k a_j (C_k^-1 a)_j / 2 with a = z - mean of k, r_k the shares of components.

        They add up to the mean of the squared Mahalanobis distances, halved.
        """
        joint = np.concatenate([mixture.joint(z) for mixture in self.mixtures], axis=1)
        shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        found = np.zeros_like(z)
        means, factors = (
            np.concatenate([getattr(one, name) for one in self.mixtures])
            for name in ("means", "factors")
        )
        for share, mean, factor in zip(shares.T, means, factors, strict=True):
            away = (z - mean).T
            white = solve_triangular(factor, away, lower=True)
            pulled = solve_triangular(factor, white, lower=True, trans=1)
            found += 0.5 * share[:, None] * (away * pulled).T
        return found


def learned(z: Float[np.ndarray, "rows columns"], noise: float, seed: int) -> Learned:
    """Of rows in any order that is not that of their kinds, plus noise of that size."""
    folds = range(FOLDS) if len(z) >= 2 * FOLDS else range(1)
    kept = [np.arange(len(z)) % FOLDS != fold if len(folds) > 1 else slice(None) for fold in folds]
    return Learned(tuple(noised_mixture(z[rows], noise, seed=seed) for rows in kept))
