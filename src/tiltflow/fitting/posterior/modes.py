"""Parts of a density that no draws connect: their shares, and which populations have met them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tiltflow.fitting.posterior.chains import Chains
from tiltflow.fitting.posterior.proposal import Proposal
from tiltflow.fitting.posterior.target import Target
from tiltflow.fitting.posterior.tempering import Population
from tiltflow.normalizer.mean_error import of_chains

SMALLEST = 0.002  # share of the mass, below which a part is not told apart
EXPECTED = 10.0  # particles that should be in a mode, before their absence counts


class Regions(NamedTuple):
    """Where the parts are.

    Attributes:
        labels: the part of each draw, `[chains, draws]`, the largest part being 0.
        shares, errors: of each part, `[parts]`.
        particles: how many of each population are in each part, `[populations, parts]`.
        sizes: of the populations.
    """

    labels: np.ndarray
    shares: np.ndarray
    errors: np.ndarray
    particles: np.ndarray
    sizes: np.ndarray

    @property
    def found_by(self) -> np.ndarray:
        """The number of populations with a particle in each part."""
        return np.sum(self.particles > 0, axis=0)

    @property
    def lacking(self) -> int:
        """Parts that fewer than two populations have met, though particles were to be expected."""
        expected = self.shares[None] * self.sizes[:, None]
        missed = (self.particles < 0.05 * expected) & (expected > EXPECTED)
        return int(np.sum(len(self.sizes) - missed.sum(axis=0) < 2))

    def indicators(self) -> np.ndarray:
        """Whether each draw is in each part that is not tiny, `[chains, draws, parts]`."""
        shown = np.flatnonzero((self.shares > SMALLEST) & (self.shares < 1 - SMALLEST))
        return (self.labels[..., None] == shown).astype(np.float64)


def regions_of(target: Target, chains: Chains, populations: list[Population]) -> Regions:
    """Told apart by the components of the chains' proposal."""
    proposal = chains.proposal
    z, _, _, _ = chains.drawn()
    flat = z.reshape(-1, z.shape[-1]).astype(np.float64)
    particles = [proposal.noise(target, p.y) for p in populations]
    part = proposal.regions(np.concatenate([flat, *particles]))
    labels = proposal.labels(flat, part)
    order = np.argsort(-np.bincount(labels, minlength=part.max() + 1), kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    labels = rank[labels].reshape(z.shape[:2])
    number = len(order)
    inside = [(labels == k).astype(np.float64) for k in range(number)]
    counts = [
        np.bincount(rank[proposal.labels(rows, part)], minlength=number) for rows in particles
    ]
    return Regions(
        labels=labels,
        shares=np.array([np.mean(one) for one in inside]),
        errors=np.array([of_chains(one).variance ** 0.5 for one in inside]),
        particles=np.stack(counts),
        sizes=np.array([len(rows) for rows in particles]),
    )


def balanced(
    proposal: Proposal, z: np.ndarray, rng: np.random.Generator, number: int
) -> np.ndarray:
    """So many rows of `z`, by index: half as they come, half from all parts alike.

    A mode that a tempering has nearly lost is then explored as well as the others are; jumps put
    its weight right.
    """
    labels = proposal.labels(z, proposal.regions(z))
    counts = np.bincount(labels)
    weights = 0.5 / len(z) + 0.5 / (np.sum(counts > 0) * counts[labels])
    return rng.choice(len(z), number, replace=number > len(z), p=weights / weights.sum())
