"""An autoregressive flow of columns of which some lie in cells: the continuous ones come first.

These go through the splines of `splines.py` to a base of their own. Then come columns of
many cells, whose shares are the masses that such a spline puts between their ends, as in an ordered
probit, and columns of few, whose shares a network tells one by one. Within a cell the density is
that of its noise, exactly, and networks are told which cell a value lies in, not where in it.

A density of whole rows as the product of conditional ones, of numbers and labels alike (Larochelle
and Murray 2011, "The neural autoregressive distribution estimator", for labels).
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.backbones.autoregressive import MaskedNetwork, OrderedFlow
from tiltflow.backbones.cells import Cells
from tiltflow.backbones.density import Density
from tiltflow.backbones.splines import OUTPUTS, backward, forward


class CelledFlow(OrderedFlow):
    """Continuous columns by splines that lead to a base; then columns in cells, by their shares.

    Attributes:
        base: a density of the continuous columns, as they are ordered; learned with the rest.
        network: as in `AutoregressiveFlow`.
        many, few: cells of the columns that come next, and of the last; not learned.
        order: of the coordinates as the network takes them.
    """

    base: Density
    network: MaskedNetwork
    many: Cells
    few: Cells
    order: Int[Array, " dim"]

    def __init__(
        self,
        base: Density,
        many: Cells,
        few: Cells,
        order: Int[Array, " dim"],
        *,
        width: int,
        depth: int = 2,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ) -> None:
        """A flow that is its base times N(0, I)."""
        levels = few.middle.shape[1]
        self.base, self.many, self.few, self.order = base, many, few, order
        self.network = MaskedNetwork(
            len(order),
            width,
            depth,
            dropout,
            inputs=1 + levels,
            outputs=max(OUTPUTS, levels),
            key=key,
        )

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """So many independent draws, coordinate by coordinate."""
        base_key, noise_key, many_key, few_key = jr.split(key, 4)
        free, first_few = self._ends_of_parts()
        y = jnp.zeros((number, len(self.order)))
        if free:
            z = self.base.draws(base_key, number)

            def continuous(y: Array, place: Array) -> tuple[Array, None]:
                raw = self._at(y, place)[:, :OUTPUTS]
                return y.at[:, place].set(jax.vmap(forward)(z[:, place], raw)), None

            y, _ = jax.lax.scan(continuous, y, jnp.arange(free))

        def of_many(y: Array, given: tuple[Array, ...]) -> tuple[Array, None]:
            place, noise_key, key = given
            raw = self._at(y, free + place)[:, :OUTPUTS]
            at = jax.vmap(forward)(jr.normal(noise_key, (number,)), raw)
            level = jnp.sum(at[:, None] >= self.many.ends[place], axis=1)
            return y.at[:, free + place].set(self.many.within(key, level, place)), None

        def of_few(y: Array, given: tuple[Array, ...]) -> tuple[Array, None]:
            place, key = given
            shift = self._at(y, first_few + place)[:, : self.few.middle.shape[1]]
            return y.at[:, first_few + place].set(self.few.draw(key, shift, place)), None

        if number_of := first_few - free:
            keys = jr.split(noise_key, number_of), jr.split(many_key, number_of)
            y, _ = jax.lax.scan(of_many, y, (jnp.arange(number_of), *keys))
        if number_of := len(self.order) - first_few:
            y, _ = jax.lax.scan(of_few, y, (jnp.arange(number_of), jr.split(few_key, number_of)))
        return y[:, jnp.argsort(self.order)]

    def _ends_of_parts(self) -> tuple[int, int]:
        """How many columns are continuous, and how many are not of few cells."""
        first_few = len(self.order) - len(self.few.ends)
        return first_few - len(self.many.ends), first_few

    def _at(self, y: Array, place: Array) -> Array:
        """The parameters of one coordinate of rows `[rows, dim]`, in order."""
        return jax.vmap(lambda y: self.network.at(self._told(y), place))(y)

    def _told(self, ordered: Array) -> Array:
        """What the network is told of a row: a number of each column, and which of few cells."""
        (free, first_few), levels = self._ends_of_parts(), self.few.middle.shape[1]
        of_many = self.many.level(ordered[free:first_few])
        of_few = self.few.level(ordered[first_few:])
        numbers = jnp.concatenate([ordered[:free], self.many.told(of_many), jnp.zeros(len(of_few))])
        chosen = jnp.concatenate([jnp.zeros((first_few, levels)), self.few.chosen(of_few)])
        return jnp.concatenate([numbers[:, None], chosen], axis=1).ravel()

    def _log_prob(self, y: Array, key: PRNGKeyArray | None) -> Array:
        ordered, (free, first_few) = y[self.order], self._ends_of_parts()
        raw = self.network(self._told(ordered), key)
        splines = raw[:first_few, :OUTPUTS]
        found = jnp.zeros(())
        if free:
            z, log_slopes = jax.vmap(backward)(ordered[:free], splines[:free])
            found = self.base.log_prob(z) + jnp.sum(log_slopes)
        if free < first_few:
            of_many = self.many.log_prob_between(
                ordered[free:first_few], lambda y: jax.vmap(backward)(y, splines[free:])[0]
            )
            found = found + jnp.sum(of_many)
        shift = raw[first_few:, : self.few.middle.shape[1]]
        return found + jnp.sum(self.few.log_prob(ordered[first_few:], shift))
