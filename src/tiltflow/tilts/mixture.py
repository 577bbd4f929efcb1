"""A Gaussian mixture over the prior as a tilt: log Z = 0 and exact draws, where coordinates are u.

    f(c) = log sum_k w_k N(c; m_k, C_k) - log N(c; 0, I)

Over a backbone whose coordinates are its noise (`backbones/prior.py`) the tilted model is the
mixture itself. So it is a start in equilibrium for what is learned on top, and the one tilt of
real data whose normaliser is known.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike

from tiltflow.errors import InputError
from tiltflow.tilts.base import Tilt

FLOOR = 1e-3  # added to the variances of fitted components


class MixtureTilt(Tilt):
    """K normal components, in float32.

    Attributes:
        log_weights: `[K]`, of any sum: they are normalised where they are used.
        means: `[K, dim]`.
        factors: `[K, dim, dim]`, upper triangular: the precision of component k is
            factors[k] factors[k]^T.
        level: is subtracted.
    """

    log_weights: Float[Array, " K"]
    means: Float[Array, "K dim"]
    factors: Float[Array, "K dim dim"]
    level: Float[Array, ""]

    def __init__(self, log_weights: Array, means: Array, factors: Array) -> None:
        """The tilt that makes N(0, I) this mixture."""
        self.log_weights, self.means, self.factors = (
            jnp.asarray(x, jnp.float32) for x in (log_weights, means, factors)
        )
        self.level = jnp.zeros(())

    @classmethod
    def standard(cls, components: int, dim: int) -> "MixtureTilt":
        """`components` times N(0, I): f = 0."""
        eye = jnp.broadcast_to(jnp.eye(dim), (components, dim, dim))
        return cls(jnp.zeros(components), jnp.zeros((components, dim)), eye)

    @classmethod
    def of_labels(
        cls, c: Float[ArrayLike, "rows dim"], labels: ArrayLike, *, shared: bool = True
    ) -> "MixtureTilt":
        """A component for each label, by maximum likelihood: linear discriminant analysis.

        Args:
            c: coordinates.
            labels: `[rows]`, integers; components are in their order, weights as often as they are.
            shared: whether all have one covariance; if not, each has its own, the quadratic one.

        Raises:
            InputError: labels that are not one integer a row; or fewer rows of a label than
                coordinates, where it has a covariance of its own.
        """
        c, labels = np.asarray(c, np.float64), np.asarray(labels)
        if labels.shape != (len(c),) or labels.dtype.kind not in "iu" or not len(c):
            raise InputError(
                f"labels of shape {labels.shape} and type {labels.dtype} for {len(c)} rows; "
                f"expected one integer a row"
            )
        _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if not shared and counts.min() <= c.shape[1]:
            raise InputError(
                f"{counts.min()} rows of a label for a covariance of {c.shape[1]} coordinates of "
                f"its own; expected more, or shared=True"
            )
        means = np.stack([c[index == k].mean(axis=0) for k in range(len(counts))])
        groups = [np.arange(len(c))] if shared else [index == k for k in range(len(counts))]
        away, floor = c - means[index], FLOOR * np.eye(c.shape[1])
        precisions = [np.linalg.inv(away[g].T @ away[g] / len(away[g]) + floor) for g in groups]
        # Upper triangular, as those of the attribute: the Cholesky factor in reversed order.
        factors = [np.linalg.cholesky(p[::-1, ::-1])[::-1, ::-1] for p in precisions]
        each = np.broadcast_to(np.stack(factors), (len(counts), *factors[0].shape))
        return cls(jnp.log(jnp.asarray(counts / len(c))), jnp.asarray(means), jnp.asarray(each))

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """Log of the mixture's density over that of N(0, I)."""
        exactly = jax.lax.Precision.HIGHEST  # draws are of the factors as they are
        away = jnp.einsum("kd,kde->ke", c - self.means, self.factors, precision=exactly)
        log_dets = jnp.sum(jnp.log(jnp.diagonal(self.factors, axis1=1, axis2=2)), axis=1)
        each = jax.nn.log_softmax(self.log_weights) + log_dets - 0.5 * jnp.sum(away**2, axis=1)
        value = jax.nn.logsumexp(each) + 0.5 * jnp.sum(c**2)
        return value - jax.lax.stop_gradient(self.level)

    def latent_log_densities(self, u: Float[Array, "chains dim"]) -> Float[Array, " chains"]:
        """The mixture's log-density up to that of N(0, I) at 0, of a batch; its log Z is 0."""
        return jax.vmap(self)(u) + self.level - 0.5 * jnp.sum(u**2, axis=1)

    @eqx.filter_jit
    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """Exact and independent draws of the mixture."""
        pick_key, noise_key = jr.split(key)
        k = jr.categorical(pick_key, self.log_weights, shape=(number,))
        noise = jr.normal(noise_key, (number, self.means.shape[1]))

        def one(k: Array, noise: Array) -> Array:
            return self.means[k] + jax.scipy.linalg.solve_triangular(
                self.factors[k].T, noise, lower=True
            )

        return jax.lax.map(lambda row: one(*row), (k, noise), batch_size=1024)

    def renew(self, key: PRNGKeyArray, u: Float[Array, "chains dim"]) -> Float[Array, "chains dim"]:
        """A fresh draw for each chain, wherever it is."""
        return self.draw(key, len(u))


class WithNoise(eqx.Module):
    """A mixture over the first coordinates of a latent point u = (z, eps), eps being N(0, I).

    That is a tilted model of z seen as one of z and a generator's noise: an exact start, and a
    proposal, for a tilt that reads the data, too.

    Attributes:
        mixture: of z.
        dim: of u.
    """

    mixture: MixtureTilt
    dim: int = eqx.field(static=True)

    @property
    def z_dim(self) -> int:
        """The size of z."""
        return self.mixture.means.shape[1]

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log of its density over that of N(0, I), up to the mixture's level."""
        return self.mixture(u[: self.z_dim])

    @property
    def level(self) -> Float[Array, ""]:
        """The mixture's."""
        return self.mixture.level

    def latent_log_densities(self, u: Float[Array, "chains dim"]) -> Float[Array, " chains"]:
        """As `MixtureTilt.latent_log_densities`."""
        return jax.vmap(self)(u) + self.level - 0.5 * jnp.sum(u**2, axis=1)

    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """Exact and independent draws."""
        z_key, noise_key = jr.split(key)
        noise = jr.normal(noise_key, (number, self.dim - self.z_dim))
        return jnp.concatenate([self.mixture.draw(z_key, number), noise], axis=1)

    def renew(self, key: PRNGKeyArray, u: Float[Array, "chains dim"]) -> Float[Array, "chains dim"]:
        """A fresh z for each chain; its noise stays.

        A tilt of the data that has given the noise a form would refuse nearly every fresh one.
        """
        return u.at[:, : self.z_dim].set(self.mixture.draw(key, len(u)))
