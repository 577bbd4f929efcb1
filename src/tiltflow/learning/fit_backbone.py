"""A flow as backbone, by maximum likelihood with early stopping on validation data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Density, Flow
from tiltflow.backbones.cells import Cells
from tiltflow.backbones.units.bijections import Units
from tiltflow.errors import InputError, at_least_one
from tiltflow.learning.early_stopping import (
    CHUNK,
    STAGE,
    Descent,
    Found,
    Listener,
    descend,
    silent,
    stepped,
)
from tiltflow.learning.filled import Filled
from tiltflow.learning.keeping import Keeper
from tiltflow.learning.rows import Rows
from tiltflow.parallel.devices import over_devices


@dataclass(frozen=True)
class BackboneSettings:
    """How the backbone is fitted.

    Attributes:
        steps: optimiser steps at most, in chunks of 250; over them the rate falls to a fiftieth
            along half a cosine.
        batch: rows in a step.
        rate: Adam's, at the start.
        decay: decoupled weight decay, as a multiple of the rate.
        memory: of the moving average of the weights, which is what is judged and kept.
        patience: chunks of 250 steps without a better validation score before it stops.
        rises: chunks in a row, each with a worse score than the one before, at which it stops.
        flips: whether every other image of a step is mirrored, left to right.
        val_rows: validation rows that are scored after each chunk, at most.
        val_draws: dequantisations of each.
    """

    steps: int = 2_000
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1.0
    memory: float = 0.998
    patience: int = 4
    rises: int = 1_000_000
    flips: bool = False
    val_rows: int = 1_000_000
    val_draws: int = 10

    def check(self) -> None:
        """Raises InputError for the first setting that cannot work."""
        at_least_one(self, "steps", "batch", "patience", "val_rows", "val_draws")
        if not (self.rate > 0 and self.decay >= 0 and 0 <= self.memory < 1):
            raise InputError(
                f"rate is {self.rate}, decay {self.decay} and memory {self.memory}; expected a "
                f"positive rate, a decay of 0 or more, and a memory in [0, 1)"
            )


def fit_backbone(
    flow: Flow,
    train: Rows,
    val: Rows,
    settings: BackboneSettings = BackboneSettings(),
    *,
    key: PRNGKeyArray,
    listen: Listener = silent,
    keeper: Keeper | None = None,
) -> tuple[Flow, float]:
    """Fit `flow`; returns the average of its weights with the best validation score, and that.

    Rows are taken in the flow's units, whatever their own. The score is the mean negative
    log-likelihood in nats, data units. `listen` is told how it goes on; `keeper` is offered the
    state after every chunk, as the stage `"backbone"`.

    Raises:
        InputError: the likelihood was never finite, or rows that are no images are to be flipped.
        Interrupted: the keeper was asked to stop.
    """
    train = replace(train, units=flow.units, flips=settings.flips)
    val = replace(val, units=flow.units)
    how = {"key": key, "listen": listen, "keeper": keeper, "stage": STAGE}
    found = _fitted(flow, train, val, settings, **how)
    return found.best, found.nll


def fit_density(
    density: Density,
    train: Rows,
    val: Rows,
    settings: BackboneSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener = silent,
    keeper: Keeper | None = None,
    stage: str,
    left: Callable[[float], float] | None = None,
) -> Found:
    """`fit_backbone` of a density of the rows' own coordinates; `stage` names it.

    `left` are the seconds that it may take from now on (`early_stopping.descend`).
    """
    how = {"key": key, "listen": listen, "keeper": keeper, "stage": stage, "left": left}
    return _fitted(density, train, val, settings, **how)


def _fitted(
    flow: Any,
    train: Rows,
    val: Rows,
    settings: BackboneSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener,
    keeper: Keeper | None,
    stage: str,
    left: Callable[[float], float] | None = None,
) -> Found:
    validation_key, key = jr.split(key)
    held_out = _held_out(val, settings, validation_key)
    parameters, frozen = eqx.partition(flow, _learned(flow))
    traced = {n: jnp.asarray(getattr(settings, n)) for n in ("rate", "decay", "memory")}
    found = descend(
        parameters,
        lambda state, key, steps: _chunk(
            state, frozen, train, key, settings.batch, {**traced, "steps": steps}
        ),
        lambda average: _nll(eqx.combine(average, frozen), held_out),
        steps=settings.steps,
        patience=settings.patience,
        rises=settings.rises,
        patient_until=0,
        what="backbone's likelihood",
        rate=settings.rate,
        key=key,
        listen=listen,
        keeper=keeper,
        stage=stage,
        left=left,
    )
    return found._replace(best=eqx.combine(found.best, frozen))


def _learned(flow: Any) -> Any:
    """Which leaves are learned: all numbers but those of units, at either end, and of cells."""
    return jax.tree.map(
        lambda node: eqx.is_inexact_array(node) and not isinstance(node, Units | Cells),
        flow,
        is_leaf=lambda node: isinstance(node, Units | Cells),
    )


def nll_of(flow: Flow, val: Rows, settings: BackboneSettings, *, key: PRNGKeyArray) -> float:
    """The score of a flow as it is, as `fit_backbone` has it."""
    return float(_nll(flow, _held_out(replace(val, units=flow.units), settings, key)))


def _held_out(val: Rows, settings: BackboneSettings, key: PRNGKeyArray) -> Filled:
    """Coordinates of the rows that are scored, all their draws in a row, and log-determinants."""
    return val.first(settings.val_rows).embedded(key, settings.val_draws)


@over_devices
def _chunk(
    state: Descent,
    frozen: Any,
    train: Rows,
    key: PRNGKeyArray,
    batch: int,
    settings: dict[str, Array],
) -> tuple[Descent, Array]:
    """`CHUNK` steps in one program, and their mean negative log-likelihood."""

    def loss(parameters: Any, key: PRNGKeyArray) -> Array:
        flow = eqx.combine(parameters, frozen)
        rows_key, dropout_key = jr.split(key)
        y, log_det = train.batch(rows_key, batch)
        return -jnp.mean(flow.training_log_probs(y, dropout_key) + log_det)

    def step(state: Descent, key: PRNGKeyArray) -> tuple[Descent, Array]:
        nll, gradient = jax.value_and_grad(loss)(state.parameters, key)
        return stepped(state, gradient, settings), nll

    state, nlls = jax.lax.scan(step, state, jr.split(key, CHUNK))
    return state, jnp.mean(nlls)


@over_devices
def _nll(flow: Flow | Density, held_out: Filled) -> Array:
    log_prob = flow.log_prob if isinstance(flow, Density) else flow.log_prob_coordinates
    return -held_out.mean(lambda y, log_det: log_prob(y) + log_det)
