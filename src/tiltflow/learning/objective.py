"""The loss whose gradient is that of the log-likelihood, eq. (3) of the design."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.tilts import Tilt


def contrast(
    tilt: Tilt,
    y_data: Float[Array, "data dim"],
    y_model: Float[Array, "model dim"],
    weights: Float[Array, " model"],
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """E_p f - E_data f, with E_p from weighted particles (weights sum to 1).

    Minimising it raises f at the data and lowers it at the model's samples. Its *gradient* is
    that of the negative log-likelihood; its value is not, and says nothing.
    """
    y = jnp.concatenate([y_data, y_model])
    f = jax.vmap(tilt)(y, jr.split(key, len(y)))
    return jnp.sum(weights * f[len(y_data) :]) - jnp.mean(f[: len(y_data)])
