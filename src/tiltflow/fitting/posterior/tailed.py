"""Mixtures of Student t components: exact draws, an exact density, and tails that reach out.

What starts a tempering, and what a proposal is made of, has to be wider than the target wherever
that is, or weights have no variance: so a share of every mixture is one t component around all.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln

from tiltflow.learning.gaussian_mixture import GaussianMixture

NORMAL = 1e6  # degrees of freedom of a component that is as good as normal
TAIL_SHARE, TAIL_FREEDOM = 0.05, 2.0  # of the component around all


class TailedDensity(eqx.Module):
    """The mixture inside of a program.

    Attributes:
        constants: log of weight and of the normalising constant of each, `[K]`.
        means: `[K, dim]`.
        whiteners: inverses of the factors, lower triangular, `[K, dim, dim]`.
        freedoms: degrees of freedom, `[K]`.
    """

    constants: Float[Array, " K"]
    means: Float[Array, "K dim"]
    whiteners: Float[Array, "K dim dim"]
    freedoms: Float[Array, " K"]

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density, in nats."""
        away = jnp.einsum("kij,kj->ki", self.whiteners, z - self.means)
        square = jnp.sum(away**2, axis=1)
        fall = 0.5 * (self.freedoms + z.size) * jnp.log1p(square / self.freedoms)
        return jax.nn.logsumexp(self.constants - fall)


class Tailed(NamedTuple):
    """The mixture on the host, in float64.

    Attributes:
        log_weights: `[K]`, normalised.
        means: `[K, dim]`.
        factors: `[K, dim, dim]`, lower triangular; of a normal component the covariance is
            factor factor^T.
        freedoms: degrees of freedom, `[K]`.
    """

    log_weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    freedoms: np.ndarray

    @classmethod
    def single(cls, mean: np.ndarray, factor: np.ndarray, freedom: float) -> "Tailed":
        """One component."""
        return cls(np.zeros(1), mean[None], factor[None], np.array([freedom]))

    @classmethod
    def around(
        cls, mixture: GaussianMixture, mean: np.ndarray, factor: np.ndarray, share: float
    ) -> "Tailed":
        """`mixture`, but for a `share` that is a t component with this mean and factor."""
        weights = np.append(np.log1p(-share) + mixture.log_weights, np.log(share))
        freedoms = np.append(np.full(len(mixture.means), NORMAL), TAIL_FREEDOM)
        return cls(
            weights,
            np.concatenate([mixture.means, mean[None]]),
            np.concatenate([mixture.factors, factor[None]]),
            freedoms,
        )

    @property
    def dim(self) -> int:
        """The size of a row."""
        return self.means.shape[1]

    def constants(self) -> np.ndarray:
        """Log of weight and of the normalising constant of each component, `[K]`."""
        log_det = np.sum(np.log(np.diagonal(self.factors, axis1=1, axis2=2)), axis=1)
        half, v = 0.5 * self.dim, 0.5 * self.freedoms
        gammas = gammaln(v + half) - gammaln(v)
        return self.log_weights + gammas - half * np.log(2 * math.pi * v) - log_det

    def joint(self, z: np.ndarray) -> np.ndarray:
        """Log of weight times density of each row and component, `[n, K]`."""
        found = np.empty((len(z), len(self.means)))
        each = zip(self.constants(), self.means, self.factors, self.freedoms, strict=True)
        for k, (constant, mean, factor, freedom) in enumerate(each):
            away = (z - mean) @ np.linalg.inv(factor).T
            square = np.einsum("ni,ni->n", away, away)
            found[:, k] = constant - 0.5 * (freedom + self.dim) * np.log1p(square / freedom)
        return found

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Of each row, in nats."""
        joint = self.joint(z)
        most = joint.max(axis=1)
        joint -= np.where(np.isfinite(most), most, 0.0)[:, None]
        with np.errstate(divide="ignore"):
            return most + np.log(np.exp(joint, out=joint).sum(axis=1))

    def draws(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Exact and independent draws, `[number, dim]`."""
        which = rng.choice(len(self.means), number, p=np.exp(self.log_weights))
        noise = rng.standard_normal((number, self.dim))
        freedom = self.freedoms[which]
        noise *= np.sqrt(freedom / rng.chisquare(freedom))[:, None]
        return self.means[which] + np.einsum("nij,nj->ni", self.factors[which], noise)

    def compiled(self, least: int = 4) -> TailedDensity:
        """For programs; filled up to `least` components or a power of two, so that few compile."""
        number = len(self.means)
        size = least if number <= least else 1 << (number - 1).bit_length()
        whiteners = np.linalg.inv(self.factors)
        constants = np.append(self.constants(), np.full(size - number, -np.inf))
        rest = (
            np.concatenate([rows, np.repeat(rows[:1], size - number, axis=0)])
            for rows in (self.means, whiteners, self.freedoms)
        )
        return TailedDensity(*(jnp.asarray(rows, jnp.float32) for rows in (constants, *rest)))
