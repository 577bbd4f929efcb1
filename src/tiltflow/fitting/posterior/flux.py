"""Means that are 0 by partial integration: do chains stop where the density does not?

For a smooth field u, E[div u + u . s] = 0, s the gradient of log pi, if pi u vanishes far out
(Stein's identity). Of draws of pi that is cut off somewhere, the flux of pi u through the cut is
left. Here u_i is how far coordinate i is from the middle of the mixture's components there: it
points outwards in every mode and in every tail.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tiltflow.fitting.posterior.tailed import Tailed
from tiltflow.normalizer.mean_error import of_chains

LEAST = 0.01  # a mean that is smaller is no alarm, whatever its error


class Middle(eqx.Module):
    """The middle of the components that are near, a smooth function.

    Attributes:
        constants: `[K]`.
        means: `[K, dim]`.
        whiteners: `[K, dim, dim]`.
    """

    constants: Float[Array, " K"]
    means: Float[Array, "K dim"]
    whiteners: Float[Array, "K dim dim"]

    @classmethod
    def of(cls, base: Tailed, factor: np.ndarray, least: int = 4) -> Middle:
        """Of all components of `base` but the last, for rows over `factor`; room for `least`."""
        near = Tailed(*(part[:-1] for part in base)).compiled(least)
        means = np.linalg.solve(factor, np.asarray(near.means, np.float64).T).T
        whiteners = np.asarray(near.whiteners, np.float64) @ factor
        arrays = (jnp.asarray(x, jnp.float32) for x in (means, whiteners))
        return cls(near.constants, *arrays)

    def outward(self, w: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """u and the derivative of each u_i by w_i."""
        away = jnp.einsum("kij,kj->ki", self.whiteners, w - self.means)
        share = jax.nn.softmax(self.constants - 0.5 * jnp.sum(away**2, axis=1))
        slope = -jnp.einsum("kij,ki->kj", self.whiteners, away)
        slope = jnp.where(share[:, None] > 0, slope, 0.0)  # not 0 times infinity
        turning = slope - share @ slope
        return w - share @ self.means, 1.0 - share @ (self.means * turning)


class Flux(NamedTuple):
    """What is left of what should be 0.

    Attributes:
        errors: the farthest mean from 0, in standard errors; 0 if it is below `LEAST`.
        bound: the largest that a mean may be: its size and two standard errors.

    Both are NaN, which is no pass, where a mean is not known.
    """

    errors: float
    bound: float


def flux_of(means: np.ndarray) -> Flux:
    """From means by block, `[chains, blocks, fields]`; of draws without a value each is 0."""
    known = np.isfinite(means).all(axis=(0, 1)) & np.any(means, axis=(0, 1))
    if not known.all():
        return Flux(math.nan, math.nan)
    errors, bound = 0.0, 0.0
    for place in range(means.shape[2]):
        column = means[..., place]
        size, error = abs(float(column.mean())), of_chains(column).variance ** 0.5
        bound = max(bound, size + 2 * error)
        if size > LEAST:
            errors = max(errors, size / max(error, 1e-12))
    return Flux(errors, bound)
