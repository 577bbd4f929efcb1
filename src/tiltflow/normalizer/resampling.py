"""Systematic resampling: which particles survive, by their weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray


def systematic(key: PRNGKeyArray, log_weights: Float[Array, " n"]) -> Int[Array, " n"]:
    """n indices, each about as often as n times its weight, from a single uniform number.

    Carpenter, Clifford and Fearnhead (1999), "Improved particle filter for nonlinear problems".
    """
    n = len(log_weights)
    cumulated = jnp.cumsum(jax.nn.softmax(log_weights))
    places = (jnp.arange(n) + jr.uniform(key, dtype=log_weights.dtype)) / n * cumulated[-1]
    return jnp.clip(jnp.searchsorted(cumulated, places), 0, n - 1)
