"""One normal density with a full covariance, and the change of variables from it to N(0, I).

The correlations are shrunk towards 0 by as much as held-out rows want, none included: columns that
nearly depend on one another lose nats by the least shrinkage, few rows of many columns need it. Of
shrinkages that are within a standard error of the best one the least is taken.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from tiltflow.backbones.units.bijections import Affine
from tiltflow.errors import InputError

LARGEST = 512  # coordinates of a full covariance
SHRINKS = (0.0, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0)  # of the correlations, towards none
LOG_2PI = np.log(2 * np.pi)


class Normal(NamedTuple):
    """A normal density.

    Attributes:
        mean: `[dim]`.
        factor: `[dim, dim]`, lower triangular: the covariance is factor factor^T.
    """

    mean: np.ndarray
    factor: np.ndarray

    def log_prob(self, c: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, " rows"]:
        """Of each row, in nats."""
        u = solve_triangular(self.factor, (c - self.mean).T, lower=True)
        log_det = np.sum(np.log(np.diagonal(self.factor)))
        return -0.5 * np.sum(u**2, axis=0) - log_det - 0.5 * c.shape[1] * LOG_2PI


def best_normal(
    c: Float[np.ndarray, "rows dim"], held_out: Float[np.ndarray, "others dim"]
) -> tuple[Normal, float]:
    """The normal density of `c`, shrunk as suits `held_out`, and its mean log-density there.

    Raises:
        InputError: a coordinate of theirs that is not finite.
    """
    if not (np.all(np.isfinite(c)) and np.all(np.isfinite(held_out))):
        raise InputError(
            "the columns have no covariance that is finite; expected finite coordinates: look for "
            "extreme values in the data"
        )
    mean, scale = c.mean(axis=0), c.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    correlation = np.atleast_2d((c - mean).T @ (c - mean)) / len(c) / np.outer(scale, scale)
    each = []
    for shrink in SHRINKS:
        shrunk = (1 - shrink) * correlation
        np.fill_diagonal(shrunk, 1.0)
        try:
            found = Normal(mean, scale[:, None] * np.linalg.cholesky(shrunk))
        except np.linalg.LinAlgError:
            continue  # columns that depend on one another exactly
        each.append((found, found.log_prob(held_out)))
    _, best = max(each, key=lambda one: np.mean(one[1]))
    for found, told in each:  # the least shrinkage that is no worse, as far as these rows can say
        short = best - told
        if np.mean(short) <= np.std(short) / np.sqrt(len(short)):
            return found, float(np.mean(told))
    raise AssertionError("the best one is no worse than itself")


def affine_of(normal: Normal) -> Affine:
    """The change of variables from draws of `normal` to those of N(0, I)."""
    dim = len(normal.mean)
    matrix = solve_triangular(normal.factor, np.eye(dim), lower=True)
    return Affine(
        mean=jnp.asarray(normal.mean, jnp.float32),
        matrix=jnp.asarray(matrix, jnp.float32),
        inverse=jnp.asarray(normal.factor, jnp.float32),
        log_det=jnp.asarray(-np.sum(np.log(np.diagonal(normal.factor))), jnp.float32),
        data_shape=(dim,),
    )


def standard(dim: int) -> Affine:
    """The base that changes nothing."""
    return affine_of(Normal(np.zeros(dim), np.eye(dim)))
