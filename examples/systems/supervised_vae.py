"""A generator whose encoder knows the classes: its bound, and a cross-entropy through its z.

An encoder that is learned without labels has no classes in its z for a tilt to use.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from features import descended
from images import Task

from tiltflow.backbones import Generator
from tiltflow.backbones.units.scale import fit_scale
from tiltflow.backbones.vae import VAESizes, make_vae

OF_CLASSES = 30.0  # nats of the bound that a nat of the labels is worth


def supervised_vae(
    data: Task, classes: int, sizes: VAESizes, *, steps: int, seed: int
) -> Generator:
    """Learned by its bound, and by the cross-entropy of a linear head that reads its z."""
    units = fit_scale(data.train, integers=False)
    keys = jr.split(jr.key(seed))
    made = make_vae(units, sizes, key=keys[0])
    both = made, eqx.nn.Linear(sizes.z_dim, classes, key=keys[1])

    def loss(both: tuple, index: jax.Array, y: jax.Array, labels: jax.Array) -> jax.Array:
        made, head = both
        y, labels = y[index], labels[index]
        mean, log_scale = jax.vmap(made.encoder)(y)
        z = mean + jnp.exp(log_scale) * jr.normal(jr.fold_in(jr.key(seed), index[0]), mean.shape)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale, axis=1)
        told = optax.softmax_cross_entropy_with_integer_labels(jax.vmap(head)(z), labels)
        fit = jax.vmap(made.log_prob_given)(y, z)
        return jnp.mean(kl - fit + OF_CLASSES * told)

    y = jax.vmap(units.encode)(jnp.asarray(data.train))
    return descended(both, loss, (y, data.train_labels), steps=steps, seed=seed)[0]
