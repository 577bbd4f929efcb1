"""A backbone whose exact draws have been made: what learning proposes to its particles.

Draws of an ensemble are dear to compile. In a stage of learning particles jump to some of a bank
of them, as often as they like; learners and witnesses each have a half of the bank, so that what
is learned from the one is judged by the other. Each stage has a bank of its own: f falls where
learners are, and would be told to fall there again.
"""

from __future__ import annotations

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.backbones.units.bijections import Units
from tiltflow.model.exact import exact

TIMES = 2  # as many draws as there are particles


def with_fresh_draws(backbone: Backbone, key: PRNGKeyArray, particles: int) -> Backbone:
    """A bank for so many particles; the backbone itself, if its draws are standard normal noise."""
    return backbone if backbone.is_normal else Bank.of(backbone, key, TIMES * particles)


class Bank(Backbone):
    """A backbone, with draws of it.

    Attributes:
        backbone: it.
        u: `[draws, *latent_shape]`.
        c: `[draws, dim]`, their coordinates.
    """

    backbone: Backbone
    u: Float[Array, "draws ..."]
    c: Float[Array, "draws dim"]

    def __init__(self, backbone: Backbone, u: Array, c: Array) -> None:
        """A backbone and draws of it."""
        self.backbone, self.u, self.c = backbone, u, c

    @classmethod
    def of(cls, backbone: Backbone, key: PRNGKeyArray, number: int) -> Bank:
        """So many fresh draws."""
        made = exact(backbone, key, number)
        return cls(backbone, jnp.asarray(made.u), jnp.asarray(made.c))

    @property
    def units(self) -> Units:  # type: ignore[override]
        """The backbone's."""
        return self.backbone.units

    @property
    def latent_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The backbone's."""
        return self.backbone.latent_shape

    @property
    def data_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The backbone's."""
        return self.backbone.data_shape

    def coordinates(self, u: Float[Array, "..."]) -> Float[Array, " dim"]:
        """The backbone's."""
        return self.backbone.coordinates(u)

    def log_prob_coordinates(self, y: Float[Array, " dim"], /) -> Float[Array, ""]:
        """The backbone's."""
        return self.backbone.log_prob_coordinates(y)

    def excess(self, u: Float[Array, "..."], c: Float[Array, " dim"]) -> Float[Array, ""]:
        """The backbone's."""
        return self.backbone.excess(u, c)

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
        """Some of the bank: the first half of them from its first half, the rest from the other."""
        return self.u[self._which(key, number)]

    def drawn(
        self, key: PRNGKeyArray, number: int
    ) -> tuple[Float[Array, "number ..."], Float[Array, "number dim"]]:
        """`draws`, and their coordinates."""
        which = self._which(key, number)
        return self.u[which], self.c[which]

    def _which(self, key: PRNGKeyArray, number: int) -> Array:
        half = len(self.u) // 2
        index = jr.randint(key, (number,), 0, half)
        return index + half * (jnp.arange(number) >= number // 2)
