"""Islands of particles: what their draws are worth, and some of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tiltflow.model.completion.boxed import one_of


class Islands(NamedTuple):
    """What has become of a row's particles.

    Attributes:
        values: `[islands, particles, n]`, of columns in boxes, and of those that are missing.
        excess: `[islands, particles]`, the log of p / r.
        log_evidence: `[islands]`, of p over r.
    """

    values: Float[np.ndarray, "islands particles n"]
    excess: Float[np.ndarray, "islands particles"]
    log_evidence: Float[np.ndarray, " islands"]

    @property
    def shares(self) -> Float[np.ndarray, " islands"]:
        """The weights of islands."""
        shares = np.exp(self.log_evidence - self.log_evidence.max())
        return shares / shares.sum()

    def ess(self, boxes: int) -> float:
        """How many even draws all are worth, by how far islands disagree on what was missing.

        Of values and of log p / r, by the mean of the variances of their means, in units of their
        own.
        """
        excess = np.where(np.isfinite(self.excess), self.excess, 0.0)
        of, shares = np.concatenate([self.values[..., boxes:], excess[..., None]], 2), self.shares
        mean = np.einsum("i,ipn->n", shares, of) / of.shape[1]
        variance = np.einsum("i,ipn->n", shares, (of - mean) ** 2) / of.shape[1]
        away = np.sum((shares[:, None] * (of.mean(axis=1) - mean)) ** 2, axis=0)
        away *= len(shares) / (len(shares) - 1)
        moved = variance > 1e-12 * (1 + mean**2)
        error = np.mean(away[moved] / variance[moved]) if moved.any() else np.inf
        return float(min(1 / max(error, 1e-12), of.shape[1] / np.sum(shares**2)))

    def drawn(self, number: int, rng: np.random.Generator) -> Float[np.ndarray, "number n"]:
        """So many of the particles, different ones as long as there are some."""
        island = one_of(self.shares, number, rng)
        found = np.empty((number, self.values.shape[2]))
        for one in np.unique(island):
            here, most = np.flatnonzero(island == one), self.values.shape[1]
            order = np.concatenate([rng.permutation(most) for _ in range(-(-len(here) // most))])
            found[here] = self.values[one, order[: len(here)]]
        return found
