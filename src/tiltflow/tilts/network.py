"""Any network as a tilt: what the learners need is put around it.

Learning starts from f = 0, where normal draws are exact samples. A gate that starts at zero makes
it so for any network (Bachlechner et al. 2021, arXiv 2003.04887, there for residual branches):

    f(y) = gate * network(y) - level.
"""

import inspect
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.tilts.base import Tilt


class NetworkTilt(Tilt):
    """f(y) from a user's network of coordinates y, `[dim]`, to a scalar.

    Attributes:
        network: any callable pytree; its floating-point arrays are learned. Smooth activations
            are best: with ReLU the leapfrog's error is much larger.
        gate: a learned factor.
        level: is subtracted; set by the learners.
        takes_key: whether the network is called as `network(y, key=key)` in training, as those
            of `equinox.nn` are.
    """

    network: Callable[..., Float[Array, ""]]
    gate: Float[Array, ""]
    level: Float[Array, ""]
    takes_key: bool = eqx.field(static=True)

    def __init__(self, network: Callable[..., Float[Array, ""]], *, gate: float = 0.0) -> None:
        """Put `network` behind a gate.

        Args:
            network: `[dim]` to a scalar, shape `()`; dropout and the like act where it takes a
                `key` and there is one.
            gate: at the start. 1 for a network that is zero by itself, such as one with a last
                layer of zeros: behind a gate of zero it would have no gradient.

        Raises:
            InputError: `network` cannot be called.
        """
        if not callable(network):
            raise InputError(
                f"the network is a {type(network).__name__}; expected something to call: "
                f"coordinates [dim] to a scalar"
            )
        self.network = network
        self.gate = jnp.asarray(gate, float)
        self.level = jnp.zeros(())
        self.takes_key = takes_key(network)

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c); without a key the network is in inference mode."""
        if key is None:
            value = eqx.nn.inference_mode(self.network)(c)
        else:
            value = self.network(c, key=key) if self.takes_key else self.network(c)
        return self.gate * value - jax.lax.stop_gradient(self.level)


def takes_key(function: Callable[..., object]) -> bool:
    """Whether it has a parameter called `key`, as what is random in training has."""
    return "key" in inspect.signature(function).parameters
