"""A Gaussian mixture by maximum a posteriori, of which held-out rows choose prior and size.

It is fitted in whitened coordinates, where one prior suits all: a covariance is drawn towards
tau I by nu rows of that, a mean towards 0 by half a row. Without a prior components collapse onto
values that many rows have; with the usual floor on the variances of columns nearly collinear ones
lose nats. Everything is plain NumPy: nothing is compiled.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.cluster import kmeans_plusplus
from threadpoolctl import threadpool_limits

from tiltflow.backbones.units.normal import LOG_2PI, Normal, best_normal

PRIORS = ((0.1, 0.1), (0.3, 0.3), (1.0, 1.0), (1.0, 2.0))  # nu over the coordinates, and tau
SIZES = (16, 4, 2, 32, 64)  # components; the first is tried first
ROWS_A_COMPONENT = 12  # at least
MEAN_PRIOR = 0.5  # rows at 0, in each mean
ROUNDS, LOOK = 40, 4  # of expectation maximisation; rounds between two looks at held-out rows
GROWTH = 0.03  # nats between two looks, below which it ends
TOGETHER = 2  # fitted at a time, each on one core
MOST_ROWS = 8_000  # that a mixture is fitted to
WORK = 1e10  # multiplications of a round, at most: fewer components where there are more
SOME = 1e-6  # of a row, that a component takes notice of


class GaussianMixture(NamedTuple):
    """Normal components.

    Attributes:
        log_weights: `[K]`, normalised.
        means: `[K, dim]`.
        factors: `[K, dim, dim]`, lower triangular: covariances are factor factor^T.
    """

    log_weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    def log_prob(self, c: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, " rows"]:
        """Of each row, in nats."""
        return np.asarray(logsumexp(self.joint(c), axis=1))

    def joint(self, c: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows K"]:
        """log of weight times density, of each row and component; in the precision of the rows."""
        found = np.empty((len(c), len(self.means)), c.dtype)
        eye = np.eye(c.shape[1])
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            inverse = solve_triangular(factor, eye, lower=True)
            away = c @ inverse.T.astype(c.dtype) - (inverse @ mean).astype(c.dtype)
            log_det = np.sum(np.log(np.diagonal(factor))) + 0.5 * c.shape[1] * LOG_2PI
            found[:, k] = -0.5 * np.einsum("ij,ij->i", away, away) - log_det
        return found + self.log_weights.astype(c.dtype)

    def through(self, normal: Normal) -> "GaussianMixture":
        """The mixture of what these coordinates, whitened by `normal`, were made of."""
        means = normal.mean + self.means @ normal.factor.T
        return GaussianMixture(self.log_weights, means, normal.factor @ self.factors)


class Found(NamedTuple):
    """What `best_mixture` returns.

    Attributes:
        mixture: the best one.
        score: its mean log-density of the held-out rows, in nats.
        prior: that it was fitted with.
    """

    mixture: GaussianMixture
    score: float
    prior: tuple[float, float]


def best_mixture(
    c: Float[np.ndarray, "rows dim"],
    held_out: Float[np.ndarray, "others dim"],
    *,
    priors: Sequence[tuple[float, float]] = PRIORS,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> Found:
    """The mixture of `c`, of one component or more, with the best mean log-density `held_out`.

    Args:
        c: rows that it is fitted to, of any scale.
        held_out: others.
        priors: nu over the number of coordinates, and tau, the weakest first; compared at the
            first size, from the middle on in the direction in which they get better.
        sizes: numbers of components, as far as rows and time allow; the first is tried first, then
            fewer, then more.
        seed: of where it starts.
    """
    normal, _ = best_normal(c, held_out)
    rng = np.random.default_rng(seed)
    some = c if len(c) <= MOST_ROWS else rng.choice(c, MOST_ROWS, replace=False)
    few = held_out[:MOST_ROWS]
    with threadpool_limits(1):  # small products: threads cost more than they bring
        white, held = (_whitened(rows, normal) for rows in (some, few))
        one = GaussianMixture(np.zeros(1), np.zeros((1, c.shape[1])), np.eye(c.shape[1])[None])
        best = Found(one, float(np.mean(one.log_prob(held))), priors[0])
        most = most_components(*white.shape)
        first, *others = dict.fromkeys(min(size, most) for size in (*sizes, 1))
        if first > 1:
            best = _of_sizes(white, held, first, others, priors, best, rng)
    log_det = np.sum(np.log(np.diagonal(normal.factor)))
    return Found(best.mixture.through(normal), best.score - log_det, best.prior)


def _of_sizes(
    white: np.ndarray,
    held: np.ndarray,
    first: int,
    others: Sequence[int],
    priors: Sequence[tuple[float, float]],
    best: Found,
    rng: np.random.Generator,
) -> Found:
    """The best of this size, of fewer components and of more, or `best`, which has one.

    Two are fitted at a time, some before it is known whether they are asked for.
    """
    seeds = {size: int(rng.integers(2**31)) for size in (first, *others)}

    def tried(size: int, prior: tuple[float, float]) -> Found:
        own = np.random.default_rng(seeds[size])
        return Found(*fit_map(white, held, size, prior, own), prior)

    fewer = sorted((n for n in others if 1 < n < first), reverse=True)
    more = sorted(n for n in others if n > first)
    with ThreadPoolExecutor(TOGETHER) as pool:
        middle = len(priors) // 2
        near = list(pool.map(lambda prior: tried(first, prior), priors[max(middle - 1, 0) :][:2]))
        found = max(near, key=_score)
        is_strong = len(near) > 1 and found is near[1]
        beyond = priors[middle + 1 :] if is_strong else priors[: max(middle - 1, 0)][::-1]
        next_one = {n: pool.submit(tried, n, found.prior) for n in fewer[:1]}
        for prior in beyond:
            if (other := tried(first, prior)).score <= found.score:
                break  # one further on would be still worse
            found = other
        best, prior = max(best, found, key=_score), found.prior
        for size in fewer:
            found = next_one[size].result() if size in next_one else tried(size, prior)
            if found.score > best.score:
                best = found
            elif len(best.mixture.means) > 1:
                break  # still fewer would be still worse
        if len(best.mixture.means) == first:
            for found in pool.map(lambda size: tried(size, prior), more):
                if found.score <= best.score:
                    break  # still more would be still worse
                best = found
    return best


def _score(found: Found) -> float:
    return found.score


def another(
    like: Found,
    c: Float[np.ndarray, "rows dim"],
    held_out: Float[np.ndarray, "others dim"],
    *,
    seed: int,
) -> GaussianMixture:
    """A mixture of the same size and prior from another start."""
    normal, _ = best_normal(c, held_out)
    rng = np.random.default_rng(seed)
    some = c if len(c) <= MOST_ROWS else rng.choice(c, MOST_ROWS, replace=False)
    with threadpool_limits(1):
        white, held = (_whitened(rows, normal) for rows in (some, held_out[:MOST_ROWS]))
        found, _ = fit_map(white, held, len(like.mixture.means), like.prior, rng)
    return found.through(normal)


def most_components(rows: int, dim: int) -> int:
    """How many components so many rows allow, and the time.

    A power of two: programs depend on it, and would be compiled anew for other numbers of rows.
    """
    most = int(max(1, min(rows // ROWS_A_COMPONENT, WORK / (2 * rows * dim**2))))
    return 1 << (most.bit_length() - 1)


def fit_map(
    white: Float[np.ndarray, "rows dim"],
    held_out: Float[np.ndarray, "others dim"],
    size: int,
    prior: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[GaussianMixture, float]:
    """`size` components by expectation maximisation, as they were when `held_out` was best.

    Args:
        white: rows of mean 0 and covariance I.
        held_out: rows in the same coordinates.
        size: the number of components.
        prior: nu over the number of coordinates, and tau.
        rng: for the start, `k-means++`.
    """
    nu, tau = prior[0] * white.shape[1], prior[1]
    centres, _ = kmeans_plusplus(white, size, random_state=int(rng.integers(2**31)))
    away = np.sum(white**2, axis=1)[:, None] - 2 * white @ centres.T + np.sum(centres**2, axis=1)
    shares = np.eye(size, dtype=white.dtype)[np.argmin(away, axis=1)]
    best, score, mixture = None, -np.inf, None
    for number in range(1, ROUNDS + 1):
        mixture = _maximised(white, shares, nu, tau)
        if number % LOOK == 0 or number == 1:
            told = float(np.mean(mixture.log_prob(held_out)))
            grown = told - score
            if grown > 0:
                best, score = mixture, told
            if grown < GROWTH and number > LOOK:
                break
        joint = mixture.joint(white)
        shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    assert best is not None
    return best, score


def _maximised(
    white: Float[np.ndarray, "rows dim"],
    shares: Float[np.ndarray, "rows K"],
    nu: float,
    tau: float,
) -> GaussianMixture:
    """The components with these shares of the rows, given the prior."""
    dim, counts = white.shape[1], shares.sum(axis=0, dtype=float)
    sums = (shares.T @ white).astype(float)
    means = sums / (counts + MEAN_PRIOR)[:, None]
    factors = np.empty((len(counts), dim, dim))
    for k, count in enumerate(counts):
        own = np.flatnonzero(shares[:, k] > SOME)
        rows = white[own]
        scatter = ((shares[own, k, None] * rows).T @ rows).astype(float)
        scatter += count * np.outer(means[k], means[k])
        scatter -= np.outer(sums[k], means[k]) + np.outer(means[k], sums[k])
        scatter[np.diag_indices(dim)] += nu * tau
        factors[k] = np.linalg.cholesky(scatter / (count + nu))
    weights = (counts + 1.0) / (counts.sum() + len(counts))
    return GaussianMixture(np.log(weights), means, factors)


def _whitened(c: np.ndarray, normal: Normal) -> np.ndarray:
    white = solve_triangular(normal.factor, (c - normal.mean).T, lower=True).T
    return np.ascontiguousarray(white, np.float32)


def draws(mixture: GaussianMixture, rng: np.random.Generator, number: int) -> np.ndarray:
    """Exact and independent draws, `[number, dim]`."""
    which = rng.choice(len(mixture.means), number, p=np.exp(mixture.log_weights))
    noise = rng.standard_normal((number, mixture.means.shape[1]))
    return mixture.means[which] + np.einsum("nij,nj->ni", mixture.factors[which], noise)
