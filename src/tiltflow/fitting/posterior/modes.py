"""Parts of a density that no path connects: their shares, and which populations have met them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tiltflow.fitting.posterior.chains import Chains
from tiltflow.fitting.posterior.landscape import SEEDS, Landscape, surveyed
from tiltflow.fitting.posterior.proposal import Proposal
from tiltflow.fitting.posterior.target import Target
from tiltflow.fitting.posterior.tempering import Population
from tiltflow.normalizer.mean_error import of_chains
from tiltflow.normalizer.pareto import pareto_k

SMALLEST = 0.002  # share of the mass, below which a part is not told apart
ABSOLUTE = math.sqrt(2 / math.pi)  # the mean of |x|, x standard normal
EXPECTED = 10.0  # particles that should be in a mode, before their absence counts
MANY = 50.0  # and where it is one population alone that says they should
HEAVIEST = 0.7  # Pareto's k of weights that are listened to
OF_EACH = 256  # particles of a population that are looked at


class Regions(NamedTuple):
    """Where the parts are.

    Attributes:
        labels: the part of each draw, `[chains, draws]`, the largest part being 0.
        shares, errors: of each part, `[parts]`.
        particles: how many of each population are in each part, `[populations, parts]`.
        sizes: of the populations.
        known, known_errors: shares and errors by whichever knows them better, chains or exact draws
            of the proposal by their weights, `[parts]`.
    """

    labels: np.ndarray
    shares: np.ndarray
    errors: np.ndarray
    particles: np.ndarray
    sizes: np.ndarray
    known: np.ndarray
    known_errors: np.ndarray

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

    @property
    def expected_error(self) -> float:
        """The total variation by which shares are expected to be wrong, by their errors."""
        return 0.5 * ABSOLUTE * float(np.sum(self.errors))

    def error_of(self, draws: int) -> float:
        """The same, if so many independent draws had told them."""
        spread = np.sqrt(self.shares * (1 - self.shares) / draws)
        return 0.5 * ABSOLUTE * float(np.sum(spread))

    def indicators(self) -> np.ndarray:
        """Whether each draw is in each part that is not tiny, `[chains, draws, parts]`."""
        shown = np.flatnonzero((self.shares > SMALLEST) & (self.shares < 1 - SMALLEST))
        return (self.labels[..., None] == shown).astype(np.float64)


def by_weight(f: np.ndarray, labels: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of so many parts, and their errors, from exact draws weighted by exp f; `[number]`.

    These are independent, and more of them are at hand than draws of chains. Errors are NaN where
    weights have no variance to be trusted.
    """
    weight = np.exp(f - f.max())
    weight /= weight.sum()
    shares = np.bincount(labels, weight, number)
    # sum over draws of w^2 (inside - share)^2, inside being 0 or 1
    squares, whole = np.bincount(labels, weight**2, number), float(np.sum(weight**2))
    errors = np.sqrt(np.maximum(squares * (1 - 2 * shares) + shares**2 * whole, 0.0))
    heavy = pareto_k(f[np.isfinite(f)]) > HEAVIEST
    return shares, np.full(number, np.nan) if heavy else errors


def lost_by_all_but_one(labels: np.ndarray, sizes: list[int]) -> bool:
    """Whether a part that one population has many particles in has next to none of the others.

    Args:
        labels: the part of each particle, of all populations in turn, and of others after them.
        sizes: of the populations.
    """
    ends, number = np.cumsum(sizes), int(labels.max()) + 1
    parts = np.split(labels[: ends[-1]], ends[:-1])
    counts = np.stack([np.bincount(part, minlength=number) for part in parts])
    expected = (counts / np.array(sizes)[:, None]).max(axis=0) * np.array(sizes)[:, None]
    missed = (counts < 0.05 * expected) & (expected > MANY)
    return bool(np.any(len(sizes) - missed.sum(axis=0) < 2))


def surveyed_by(
    target: Target,
    proposal: Proposal,
    populations: list[Population],
    rng: np.random.Generator,
    seeds: int = SEEDS,
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Landscape:
    """The parts in which particles are and, if given, draws: latent rows, y, and log-densities.

    Particles are looked at with draws: a part that chains have lost is still one.
    """
    some = [p.y[rng.choice(len(p.y), min(len(p.y), OF_EACH), replace=False)] for p in populations]
    z = proposal.noise(target, np.concatenate(some))
    y, density = proposal.latent(target, z)
    fine = np.isfinite(density)
    z, y, density, cost = z[fine], y[fine], density[fine], len(z)
    if drawn is not None:
        z, y = np.concatenate([drawn[0], z]), np.concatenate([drawn[1], y])
        density = np.append(drawn[2], density)
    factor = proposal.within
    found = surveyed(
        z, y, density, factor, lambda w: proposal.latent(target, w @ factor.T), rng, seeds
    )
    return found._replace(cost=found.cost + cost)


def regions_of(
    target: Target,
    landscape: Landscape,
    chains: Chains,
    populations: list[Population],
    exact: tuple[np.ndarray, ...],
) -> Regions:
    """The parts of a landscape, as draws and particles are in them.

    Args:
        target, landscape, chains, populations: of the run.
        exact: draws of the proposal, z, y `[n, dim]` and f `[n]`; those of `chains.pool` aside.
    """
    z, y, _, _ = chains.drawn()
    flat_z, flat_y = (x.reshape(-1, z.shape[-1]).astype(np.float64) for x in (z, y))
    labels = landscape.labels(flat_z, flat_y)
    number = int(landscape.parts.max()) + 1
    order = np.argsort(-np.bincount(labels, minlength=number), kind="stable")
    rank = np.empty(number, int)
    rank[order] = np.arange(number)
    labels = rank[labels].reshape(z.shape[:2])
    inside = [(labels == k).astype(np.float64) for k in range(number)]
    particles = [
        landscape.labels(chains.proposal.noise(target, p.y), p.y.astype(np.float64))
        for p in populations
    ]
    shares = np.array([np.mean(one) for one in inside])
    errors = np.array([of_chains(one).variance ** 0.5 for one in inside])
    all_z, all_y, f_q = (np.concatenate(x) for x in zip(exact, chains.pool(), strict=True))
    known, known_errors = by_weight(f_q, rank[landscape.labels(all_z, all_y)], number)
    if not np.sum(known_errors**2) < np.sum(errors**2):
        known, known_errors = shares, errors
    return Regions(
        labels=labels,
        shares=shares,
        errors=errors,
        known=known,
        known_errors=known_errors,
        particles=np.stack([np.bincount(rank[rows], minlength=number) for rows in particles]),
        sizes=np.array([len(rows) for rows in particles]),
    )


def balanced(labels: np.ndarray, rng: np.random.Generator, number: int) -> np.ndarray:
    """So many rows by index: half as they come, half from all parts alike.

    A mode that a tempering has nearly lost is then explored as well as the others are; jumps put
    its weight right.
    """
    counts, rows = np.bincount(labels), len(labels)
    weights = 0.5 / rows + 0.5 / (np.sum(counts > 0) * counts[labels])
    return rng.choice(rows, number, replace=number > rows, p=weights / weights.sum())
