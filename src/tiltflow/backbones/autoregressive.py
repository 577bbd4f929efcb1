"""A masked autoregressive flow on a Gaussian mixture: one pass to score, `dim` steps to draw.

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

Hidden = tuple[Float[Array, "units rows"], ...]
"""The hidden layers of rows of which some coordinates are known."""


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

    def nothing_known(self, rows: int) -> Hidden:
        """The hidden layers of so many rows before `at` is asked for the first coordinate."""
        return tuple(jnp.zeros((layer.out_features, rows)) for layer in self.layers[:-1])

    def at(
        self, y: Float[Array, "inputs rows"], hidden: Hidden, place: Int[Array, ""]
    ) -> tuple[Float[Array, "outputs rows"], Hidden]:
        """The parameters of one coordinate of many rows, and what the next one is asked for with.

        Coordinates are asked for in order. Only those hidden units are computed that look at the
        newest one of those that are known: all coordinates together take about one pass.

        Args:
            y: the inputs, of which those from `place` on do not count.
            hidden: the hidden layers as the coordinate before has left them.
            place: of the coordinate.
        """
        dim = len(y) // self.inputs
        newest = jnp.maximum(place - 1, 0)
        below, degrees = _bounded(y), np.repeat(np.arange(dim), self.inputs)
        known = []
        for layer, units in zip(self.layers[:-1], hidden, strict=True):
            own = _degrees(len(units), dim)
            which = jnp.asarray(_units_by_degree(len(units), dim))[newest]
            weight = layer.weight[which] * (jnp.asarray(own)[which][:, None] >= degrees)
            fresh = jax.nn.silu(weight @ below + _bias(layer)[which][:, None])
            below, degrees = units.at[which].set(fresh), own
            known.append(below)
        last = self.layers[-1]
        weight = last.weight.reshape(dim, self.outputs, -1)[place] * (place > degrees)
        bias = _bias(last).reshape(dim, self.outputs)[place]
        return weight @ below + bias[:, None], tuple(known)

    def _hidden(self, y: Array, key: PRNGKeyArray | None) -> tuple[Array, np.ndarray]:
        """The last hidden layer, and up to which coordinate each of its units looks."""
        dim = len(y) // self.inputs
        hidden = _bounded(y)
        degrees = np.repeat(np.arange(dim), self.inputs)
        for number, layer in enumerate(self.layers[:-1]):
            units = _degrees(len(layer.weight), dim)
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
        z = self.base.draws(key, number).T[self.order]

        def one_more(
            known: tuple[Array, Hidden], place: Array
        ) -> tuple[tuple[Array, Hidden], None]:
            y, hidden = known
            raw, hidden = self.network.at(y, hidden, place)
            return (y.at[place].set(jax.vmap(forward, (0, 1))(z[place], raw)), hidden), None

        begun = jnp.zeros_like(z), self.network.nothing_known(number)
        (ordered, _), _ = jax.lax.scan(one_more, begun, jnp.arange(len(z)))
        return ordered[jnp.argsort(self.order)].T

    def _log_prob(self, y: Array, key: PRNGKeyArray | None) -> Array:
        ordered = y[self.order]
        z, log_slopes = jax.vmap(backward)(ordered, self.network(ordered, key))
        return self.base.log_prob(z[jnp.argsort(self.order)]) + jnp.sum(log_slopes)


def _bounded(y: Array) -> Array:
    return INPUT_BOUND * jnp.tanh(y / INPUT_BOUND)


def _degrees(units: int, dim: int) -> Int[np.ndarray, " units"]:
    """The last coordinate that each hidden unit looks at."""
    return np.arange(units) % max(1, dim - 1)


def _units_by_degree(units: int, dim: int) -> Int[np.ndarray, "degrees most"]:
    """The hidden units of each degree; where there are fewer, some of them twice.

    For a degree without units the first unit stands: computed again it is what it was.
    """
    degrees = _degrees(units, dim)
    each = [np.flatnonzero(degrees == degree) for degree in range(max(1, dim - 1))]
    most = max(len(some) for some in each)
    return np.stack([np.resize(some if len(some) else [0], most) for some in each])


def _bias(layer: eqx.nn.Linear) -> Array:
    assert layer.bias is not None
    return layer.bias
