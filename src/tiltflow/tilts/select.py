"""Tilts of a generator's coordinates c = [z, y]: of its latent z, of the data's y, and sums.

A tilt of both needs no wrapper: it reads c. A tilt of z alone is best learned and sampled over
the generator's `Prior`, where c is z; `OfLatent` then puts it in a sum with others.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.tilts.base import Tilt


class _Part(Tilt):
    """A tilt of some of the coordinates; the first `z_dim` are z."""

    tilt: Tilt
    z_dim: int = eqx.field(static=True)
    level: Float[Array, ""] = eqx.field(default_factory=lambda: jnp.zeros(()))

    @abc.abstractmethod
    def part(self, c: Float[Array, " dim"]) -> Float[Array, " part"]:
        """What the tilt reads."""

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """The tilt of that part."""
        return self.tilt(self.part(c), key) - jax.lax.stop_gradient(self.level)


class OfLatent(_Part):
    """f(z)."""

    def part(self, c: Float[Array, " dim"]) -> Float[Array, " part"]:
        """The first `z_dim` coordinates."""
        return c[: self.z_dim]


class OfData(_Part):
    """f(y)."""

    def part(self, c: Float[Array, " dim"]) -> Float[Array, " part"]:
        """All but the first `z_dim` coordinates."""
        return c[self.z_dim :]


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
