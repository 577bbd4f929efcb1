"""A masked autoregressive flow on a Gaussian mixture: one pass to score, `dim` passes to draw.

Each coordinate goes through an affine map and a rational-quadratic spline, whose parameters a
network makes of the coordinates before it (Papamakarios et al. 2017, arXiv 1705.07057; Germain et
al. 2015, arXiv 1502.03509, for the masks; Durkan et al. 2019, arXiv 1906.04032, eq. 4 to 8, for the
splines). The last layer starts at zero, where the flow is the identity: it starts *at* its base.

Inputs of the network are bounded, and so are log-scales; splines end in straight lines. So the
tails are those of the base.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.backbones.density import Density
from tiltflow.backbones.splines import OUTPUTS, backward, forward

INPUT_BOUND = 3.0


class MaskedNetwork(eqx.Module):
    """Coordinates to the parameters of each, which depend on those before it alone.

    Attributes:
        layers: the linear maps, before their masks.
        dropout: share of hidden units dropped where a training key is given.
        inputs: numbers that each coordinate is told by.
        outputs: parameters of each.
    """

    layers: tuple[eqx.nn.Linear, ...]
    dropout: float = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        width: int,
        depth: int,
        dropout: float,
        *,
        inputs: int = 1,
        outputs: int = OUTPUTS,
        key: PRNGKeyArray,
    ) -> None:
        """`depth` hidden layers of `width` units; the outputs start at zero."""
        sizes = [dim * inputs, *[width] * depth, dim * outputs]
        keys = jr.split(key, depth + 1)
        layers = [
            eqx.nn.Linear(inputs, outputs, key=k)
            for inputs, outputs, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        ]
        last = jax.tree.map(jnp.zeros_like, layers[-1])
        self.layers, self.dropout = (*layers[:-1], last), dropout
        self.inputs, self.outputs = inputs, outputs

    def __call__(
        self, y: Float[Array, " inputs"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "dim outputs"]:
        """The parameters of each coordinate, from all inputs, those of the first one first."""
        hidden, degrees = self._hidden(y, key)
        last, dim = self.layers[-1], len(y) // self.inputs
        mask = np.repeat(np.arange(dim)[:, None] > degrees[None, :], self.outputs, axis=0)
        return ((last.weight * mask) @ hidden + _bias(last)).reshape(dim, self.outputs)

    def at(self, y: Float[Array, " inputs"], place: Int[Array, ""]) -> Float[Array, " outputs"]:
        """The parameters of one coordinate alone, at a fraction of the price of all."""
        hidden, degrees = self._hidden(y, None)
        last, dim = self.layers[-1], len(y) // self.inputs
        weight = last.weight.reshape(dim, self.outputs, -1)[place]
        bias = _bias(last).reshape(dim, self.outputs)[place]
        return (weight * (place > degrees)) @ hidden + bias

    def _hidden(self, y: Array, key: PRNGKeyArray | None) -> tuple[Array, np.ndarray]:
        """The last hidden layer, and up to which coordinate each of its units looks."""
        dim = len(y) // self.inputs
        hidden = INPUT_BOUND * jnp.tanh(y / INPUT_BOUND)
        degrees = np.repeat(np.arange(dim), self.inputs)
        for number, layer in enumerate(self.layers[:-1]):
            units = np.arange(layer.out_features) % max(1, dim - 1)
            mask = units[:, None] >= degrees[None, :]
            hidden = jax.nn.silu((layer.weight * mask) @ hidden + _bias(layer))
            if key is not None and self.dropout:
                kept = jr.bernoulli(jr.fold_in(key, number), 1 - self.dropout, hidden.shape)
                hidden = jnp.where(kept, hidden / (1 - self.dropout), 0)
            degrees = units
        return hidden, degrees


class OrderedFlow(Density):
    """Coordinates one after the other, each given those before it, on a base.

    Attributes:
        base: a density with draws; learned with the rest.
        network: to the parameters of each coordinate.
        order: of the coordinates as the network takes them.
    """

    base: eqx.AbstractVar[Density]
    network: eqx.AbstractVar[MaskedNetwork]
    order: eqx.AbstractVar[Int[Array, " dim"]]

    def log_prob(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log-density, in nats, at the price of one pass."""
        return self._log_prob(y, None)

    def training_log_probs(
        self, y: Float[Array, "rows dim"], key: PRNGKeyArray
    ) -> Float[Array, " rows"]:
        """The log-densities of a batch, with dropout."""
        return jax.vmap(self._log_prob)(y, jr.split(key, len(y)))

    @abc.abstractmethod
    def _log_prob(self, y: Array, key: PRNGKeyArray | None) -> Array:
        """The log-density; with dropout, where there is a key."""


class AutoregressiveFlow(OrderedFlow):
    """A base, and a masked network that leads from there to coordinates."""

    base: Density
    network: MaskedNetwork
    order: Int[Array, " dim"]

    def __init__(
        self,
        base: Density,
        dim: int,
        *,
        width: int,
        depth: int = 2,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ) -> None:
        """A flow that is its base, which knows nothing of the order."""
        order_key, key = jr.split(key)
        self.base = base
        self.network = MaskedNetwork(dim, width, depth, dropout, key=key)
        self.order = jr.permutation(order_key, dim)

    def draws(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """So many independent draws, coordinate by coordinate."""
        z = self.base.draws(key, number)[:, self.order]

        def one_more(y: Array, place: Array) -> tuple[Array, None]:
            parameters = jax.vmap(lambda y: self.network.at(y, place))(y)
            return y.at[:, place].set(jax.vmap(forward)(z[:, place], parameters)), None

        ordered, _ = jax.lax.scan(one_more, jnp.zeros_like(z), jnp.arange(z.shape[1]))
        return ordered[:, jnp.argsort(self.order)]

    def _log_prob(self, y: Array, key: PRNGKeyArray | None) -> Array:
        ordered = y[self.order]
        z, log_slopes = jax.vmap(backward)(ordered, self.network(ordered, key))
        return self.base.log_prob(z[jnp.argsort(self.order)]) + jnp.sum(log_slopes)


def _bias(layer: eqx.nn.Linear) -> Array:
    assert layer.bias is not None
    return layer.bias
