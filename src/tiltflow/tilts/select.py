"""Tilts of a generator's coordinates c = [z, y]: of its latent z, of the data's y, and sums.

A tilt of both needs no wrapper: it reads c. A tilt of z alone is best learned and sampled over
the generator's `Prior`, where c is z; `OfLatent` then puts it in a sum with others.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.tilts.base import Tilt


class OfLatent(Tilt):
    """f(z): the first `z_dim` coordinates."""

    tilt: Tilt
    level: Float[Array, ""]
    z_dim: int = eqx.field(static=True)

    def __init__(self, tilt: Tilt, z_dim: int) -> None:
        """`tilt` of that part."""
        self.tilt, self.z_dim = tilt, z_dim
        self.level = jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(z)."""
        return self.tilt(c[: self.z_dim], key) - jax.lax.stop_gradient(self.level)


class OfData(Tilt):
    """f(y): all but the first `z_dim` coordinates."""

    tilt: Tilt
    level: Float[Array, ""]
    z_dim: int = eqx.field(static=True)

    def __init__(self, tilt: Tilt, z_dim: int) -> None:
        """`tilt` of that part."""
        self.tilt, self.z_dim = tilt, z_dim
        self.level = jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(y)."""
        return self.tilt(c[self.z_dim :], key) - jax.lax.stop_gradient(self.level)


class Sum(Tilt):
    """f_1(c) + f_2(c) + ..."""

    parts: tuple[Tilt, ...]
    level: Float[Array, ""]

    def __init__(self, *parts: Tilt) -> None:
        """The sum of `parts`."""
        self.parts = parts
        self.level = jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """The sum, each part with a key of its own."""
        keys = [None if key is None else jr.fold_in(key, i) for i in range(len(self.parts))]
        total = sum((part(c, k) for part, k in zip(self.parts, keys, strict=True)), jnp.zeros(()))
        return total - jax.lax.stop_gradient(self.level)
