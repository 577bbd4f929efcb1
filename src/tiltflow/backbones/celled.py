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

from tiltflow.backbones.autoregressive import Hidden, MaskedNetwork, OrderedFlow
from tiltflow.backbones.cells import Cells
from tiltflow.backbones.density import Density
from tiltflow.backbones.splines import OUTPUTS, backward, forward

Known = tuple[Float[Array, "dim rows"], Hidden]
"""Rows, in order, of which some coordinates are known, and the hidden layers of these."""


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
        known = jnp.zeros((len(self.order), number)), self.network.nothing_known(number)
        if free:
            z = self.base.draws(base_key, number).T

            def continuous(known: Known, place: Array) -> tuple[Known, None]:
                raw, hidden = self._at(known, place)
                value = jax.vmap(forward, (0, 1))(z[place], raw[:OUTPUTS])
                return (known[0].at[place].set(value), hidden), None

            known, _ = jax.lax.scan(continuous, known, jnp.arange(free))

        def of_many(known: Known, given: tuple[Array, ...]) -> tuple[Known, None]:
            place, noise_key, key = given
            raw, hidden = self._at(known, free + place)
            at = jax.vmap(forward, (0, 1))(jr.normal(noise_key, (number,)), raw[:OUTPUTS])
            level = jnp.searchsorted(self.many.ends[place], at, side="right", method="scan")
            value = self.many.within(key, level, place)
            return (known[0].at[free + place].set(value), hidden), None

        def of_few(known: Known, given: tuple[Array, ...]) -> tuple[Known, None]:
            place, key = given
            raw, hidden = self._at(known, first_few + place)
            value = self.few.draw(key, raw[: self.few.middle.shape[1]].T, place)
            return (known[0].at[first_few + place].set(value), hidden), None

        if number_of := first_few - free:
            keys = jr.split(noise_key, number_of), jr.split(many_key, number_of)
            known, _ = jax.lax.scan(of_many, known, (jnp.arange(number_of), *keys))
        if number_of := len(self.order) - first_few:
            keys = jr.split(few_key, number_of)
            known, _ = jax.lax.scan(of_few, known, (jnp.arange(number_of), keys))
        return known[0][jnp.argsort(self.order)].T

    def _ends_of_parts(self) -> tuple[int, int]:
        """How many columns are continuous, and how many are not of few cells."""
        first_few = len(self.order) - len(self.few.ends)
        return first_few - len(self.many.ends), first_few

    def _at(self, known: Known, place: Array) -> tuple[Array, Hidden]:
        """The parameters of one coordinate of rows, and the hidden layers after it."""
        y, hidden = known
        return self.network.at(jax.vmap(self._told, 1, 1)(y), hidden, place)

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
