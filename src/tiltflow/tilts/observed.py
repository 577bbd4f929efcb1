"""A tilt with an observation: a part of x is known, up to normal noise.

If y = x_seen + sigma eps has been observed, eps ~ N(0, I), then what is known of x is the tilted
model once more: p(x | y) ∝ exp(f(x)) q(x) N(y; x_seen, sigma^2 I). So the tilt becomes

    f(c) - |y - x_seen(c)|^2 / (2 sigma^2),

and samplers and normalisers serve as they are. Its log Z, less that of f alone, is the evidence
log p(y) + (n / 2) log(2 pi sigma^2), of n numbers seen.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tiltflow.backbones.base import Backbone
from tiltflow.tilts.base import ReadsCoordinates


class ObservedTilt(ReadsCoordinates):
    """f and an observation, for coordinates c of `backbone`.

    Attributes:
        tilt: f.
        backbone: the one that f tilts: it decodes c.
        y: what was observed, `data_shape`, in data units; only its seen part is looked at, but all
            of it has to be finite.
        seen: which part it is, `data_shape`.
        sigma: standard deviation of the observation's noise, data units; positive.
    """

    tilt: Callable[[Float[Array, " dim"]], Float[Array, ""]]
    backbone: Backbone
    y: Float[Array, "..."]
    seen: Bool[Array, "..."]
    sigma: Float[Array, ""]

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, ""]:
        """f(c) and the log-likelihood of the observation, up to its constant."""
        apart = jnp.where(self.seen, self.backbone.decode(c) - self.y, 0.0) / self.sigma
        return self.tilt(c) - 0.5 * jnp.sum(apart**2)
