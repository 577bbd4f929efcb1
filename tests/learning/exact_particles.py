"""Particles of the untilted model, for tests of what is done to them."""

import jax.numpy as jnp
import jax.random as jr

from tiltflow.learning.particles import Particles
from tiltflow.model.exact import push_in_parts


def exact(key, backbone, number, step_size):
    """`number` exact draws of N(0, I), where f = 0."""
    u = jr.normal(key, (number, *backbone.latent_shape))
    y = push_in_parts(backbone, u)
    return Particles(u, y, jnp.zeros(number), jnp.asarray(step_size, u.dtype))
