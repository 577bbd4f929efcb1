"""A generator by its evidence lower bound, with early stopping on validation data.

The KL term is warmed up: for the first share of the steps it counts for less (Sønderby et al.
2016, arXiv 1602.02282, section 2.3), so that z is used before it is paid for. A decoder of the
user's own can be kept as it is: then its encoder and its noise alone are learned.
"""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.base import Backbone
from tiltflow.backbones.generator import Generator
from tiltflow.errors import InputError, at_least_one
from tiltflow.learning.early_stopping import CHUNK, Descent, Listener, descend, silent, stepped
from tiltflow.learning.filled import Filled
from tiltflow.learning.keeping import Keeper
from tiltflow.learning.rows import Rows
from tiltflow.parallel.devices import over_devices

VALIDATION_DRAWS = 2  # embeddings of each validation row


@dataclass(frozen=True)
class VAESettings:
    """How a generator is learned.

    Attributes:
        steps: optimiser steps at most, in chunks of 250; over them the rate falls to a fiftieth
            along half a cosine.
        batch: rows in a step.
        rate: Adam's, at the start.
        decay: decoupled weight decay, as a multiple of the rate.
        memory: of the moving average of the weights, which is what is judged and kept.
        warmup: share of the steps over which the KL term's weight rises from 0 to 1.
        patience: chunks without a better validation score before it stops, after the warm-up.
        keep_decoder: whether only the encoder and the noise are learned.
    """

    steps: int = 6_000
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.01
    memory: float = 0.998
    warmup: float = 0.2
    patience: int = 6
    keep_decoder: bool = False

    def check(self) -> None:
        """Raises InputError for the first setting that cannot work."""
        at_least_one(self, "steps", "batch", "patience")
        if not (self.rate > 0 and self.decay >= 0):
            raise InputError(
                f"rate is {self.rate} and decay {self.decay}; expected a positive rate, and a "
                f"decay of 0 or more"
            )
        if not (0 <= self.memory < 1 and 0 <= self.warmup < 1):
            raise InputError(
                f"memory is {self.memory} and warmup {self.warmup}; expected numbers in [0, 1)"
            )


def fit_vae(
    generator: Generator,
    train: Rows,
    val: Rows,
    settings: VAESettings = VAESettings(),
    *,
    key: PRNGKeyArray,
    listen: Listener = silent,
    keeper: Keeper | None = None,
) -> tuple[Generator, float]:
    """Learn `generator`; returns the average of its weights with the best validation score.

    The score, returned too, is minus the evidence lower bound in nats, data units. `keeper` is
    offered the state after every chunk, as the stage `"backbone"`.

    Raises:
        InputError: settings that cannot work, or a bound that was never finite.
        Interrupted: the keeper was asked to stop.
    """
    settings.check()
    validation_key, key = jr.split(key)
    val = val.through(generator)
    train = replace(train, units=generator.units)
    parameters, frozen = eqx.partition(generator, _trained(generator, settings.keep_decoder))
    traced = {
        name: jnp.asarray(getattr(settings, name)) for name in ("rate", "decay", "memory", "warmup")
    }
    found = descend(
        parameters,
        lambda state, key, steps: _chunk(
            state, frozen, train, key, settings.batch, {**traced, "steps": steps}
        ),
        lambda average: negative_bound(eqx.combine(average, frozen), val, validation_key),
        steps=settings.steps,
        patience=settings.patience,
        patient_until=settings.warmup * settings.steps,
        what="generator's bound",
        rate=settings.rate,
        key=key,
        listen=listen,
        keeper=keeper,
    )
    return eqx.combine(found.best, frozen), found.nll


def _trained(generator: Generator, keep_decoder: bool) -> Any:
    """Which leaves are learned: not the units, and not a decoder that is to be kept."""
    learned = jax.tree.map(eqx.is_inexact_array, generator)
    learned = eqx.tree_at(lambda g: g.units, learned, False)
    return eqx.tree_at(lambda g: g.decoder, learned, False) if keep_decoder else learned


@over_devices
def _chunk(
    state: Descent,
    frozen: Generator,
    train: Rows,
    key: PRNGKeyArray,
    batch: int,
    settings: dict[str, Array],
) -> tuple[Descent, Array]:
    """`CHUNK` steps in one program, and the mean of minus their bounds."""

    def loss(parameters: Any, step: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        generator: Generator = eqx.combine(parameters, frozen)
        rows_key, z_key = jr.split(key)
        y, log_det = train.batch(rows_key, batch)
        fit, kl = jax.vmap(lambda y, k: _terms(generator, y, k))(y, jr.split(z_key, batch))
        warmth = jnp.clip(step / jnp.maximum(settings["warmup"] * settings["steps"], 1), 0.0, 1.0)
        return jnp.mean(warmth * kl - fit), jnp.mean(kl - fit - log_det)

    def step(state: Descent, key: PRNGKeyArray) -> tuple[Descent, Array]:
        gradient, nll = jax.grad(loss, has_aux=True)(state.parameters, state.step, key)
        return stepped(state, gradient, settings), nll

    state, nlls = jax.lax.scan(step, state, jr.split(key, CHUNK))
    return state, jnp.mean(nlls)


def _terms(
    generator: Generator, y: Float[Array, " y"], key: PRNGKeyArray
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Log q(y|z) at a draw of the encoder, and KL(e(z|y), q(z)) in closed form."""
    mean, log_scale = generator.encoder(y)
    z = mean + jnp.exp(log_scale) * jr.normal(key, mean.shape, mean.dtype)
    kl = 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale)
    return generator.log_prob_given(y, z), kl


@over_devices
def negative_bound(backbone: Backbone, rows: Rows, key: PRNGKeyArray) -> Float[Array, ""]:
    """Minus the mean evidence lower bound of `rows`, nats per row, data units."""
    rows = rows.through(backbone)

    def bound(key: PRNGKeyArray) -> Array:
        each = rows.each(lambda c, weight: backbone.log_prob_coordinates(c) + weight, key)
        return Filled(each, rows.count).mean(lambda bound: bound)

    return -jnp.mean(jax.lax.map(bound, rows.keys(key, VALIDATION_DRAWS)))
