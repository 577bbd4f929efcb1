"""The loss whose gradient is that of the log-likelihood, eq. (3) of the design."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.tilts import Tilt
from tiltflow.tilts.classes import class_logits, classes_of


def gradient(
    parameters: Any,
    frozen: Any,
    y_data: Float[Array, "data dim"],
    labels: Int[Array, " data"] | None,
    y_model: Float[Array, "model dim"],
    weights: Float[Array, " model"],
    class_weight: float | Array,
    key: PRNGKeyArray,
) -> Any:
    """The gradient of the negative log-likelihood in a tilt's parameters (`tilts.base.freeze`).

    Args:
        parameters, frozen: the two parts of the tilt.
        y_data, labels: coordinates of rows, and their classes, if they have some.
        y_model, weights: coordinates of draws of the model, and their weights, which sum to 1.
        class_weight: of the labels' likelihood beside that of the rows.
        key: for dropout.
    """

    def loss(parameters: Any) -> Array:
        tilt: Tilt = eqx.combine(parameters, frozen)
        of_labels = class_weight * cross_entropy(tilt, y_data, labels, key)
        return contrast(tilt, y_data, y_model, weights, key) + of_labels

    return jax.grad(loss)(parameters)


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
