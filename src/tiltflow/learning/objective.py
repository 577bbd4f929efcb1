"""The loss whose gradient is that of the log-likelihood, eq. (3) of the design."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.tilts import Tilt
from tiltflow.tilts.classes import class_logits, classes_of


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


def cross_entropy(
    tilt: Tilt,
    y_data: Float[Array, "data dim"],
    labels: Int[Array, " data"] | None,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """-E_data log p(label | y): minimised beside `contrast` it makes that one of rows and labels.

    That is all there is to it: log p(y, k) = log p(y) + log p(k | y). 0 where rows have no labels,
    or the tilt no classes.
    """
    if labels is None or not classes_of(tilt):
        return jnp.zeros(())

    def one(y: Array, label: Array, key: PRNGKeyArray) -> Array:
        return -jax.nn.log_softmax(class_logits(tilt, y, key))[label]

    return jnp.mean(jax.vmap(one)(y_data, labels, jr.split(key, len(y_data))))
