"""A Gaussian mixture of rows plus noise N(0, s^2 I), by expectation maximisation.

The noise is not drawn: a component's covariance is that of its rows plus s^2 I, which no thin
direction and no value that repeats can bring below s^2.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp
from sklearn.cluster import kmeans_plusplus
from threadpoolctl import threadpool_limits

from tiltflow.learning.gaussian_mixture import GaussianMixture

MOST_COMPONENTS, ROWS_A_COMPONENT = 20, 30
WORK = 2e9  # multiplications of a round, at most: fewer components where there are more
ROUNDS, GROWTH = 100, 1e-3  # of expectation maximisation; nats a row, below which it ends


def noised_mixture(
    z: Float[np.ndarray, "rows columns"], noise: float, *, seed: int = 0
) -> GaussianMixture:
    """The mixture of rows `z` plus noise of standard deviation `noise`.

    At most 20 full components, one for 30 rows, or as few as the columns make affordable.

    Args:
        z: rows of one scale.
        noise: s, in the units of `z`; positive.
        seed: of where it starts.
    """
    size = components(*z.shape)
    rng = np.random.RandomState(seed)
    with threadpool_limits(1):  # small products: threads cost more than they bring
        centres, _ = kmeans_plusplus(z, size, random_state=rng)
        away = np.sum(centres**2, axis=1) - 2 * z @ centres.T
        shares = np.eye(size)[np.argmin(away, axis=1)]
        mixture, told = _maximised(z, shares, noise), -np.inf
        for _ in range(ROUNDS if size > 1 else 0):
            joint = mixture.joint(z)
            logs = np.asarray(logsumexp(joint, axis=1, keepdims=True))
            before, told = told, float(logs.mean())
            if told - before < GROWTH:
                break
            mixture = _maximised(z, np.exp(joint - logs), noise)
    return mixture


def components(rows: int, columns: int) -> int:
    """How many so many rows allow, and the time."""
    affordable = WORK / (2 * rows * columns**2)
    return int(max(1, min(MOST_COMPONENTS, rows // ROWS_A_COMPONENT, affordable)))


def _maximised(z: np.ndarray, shares: np.ndarray, noise: float) -> GaussianMixture:
    """The components with these shares of the rows."""
    dim, counts = z.shape[1], shares.sum(axis=0) + 1e-9
    means = shares.T @ z / counts[:, None]
    factors = np.empty((len(counts), dim, dim))
    for k, count in enumerate(counts):
        away = z - means[k]
        covariance = (shares[:, k, None] * away).T @ away / count
        covariance[np.diag_indices(dim)] += noise**2
        factors[k] = np.linalg.cholesky(covariance)
    return GaussianMixture(np.log(counts / counts.sum()), means, factors)
