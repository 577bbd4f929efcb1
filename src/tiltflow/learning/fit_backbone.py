"""The backbone, by maximum likelihood with early stopping on validation data."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import CouplingFlow
from tiltflow.errors import InputError
from tiltflow.learning import optimiser
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.rows import Rows

CHUNK = 250  # compiled steps between two looks at the validation data
FINAL_RATE = 0.02  # of the cosine, as a share of the first
VALIDATION_DRAWS = 10  # dequantisations of each validation row
Listener = Callable[..., Any]  # called as (phase, event, **fields)


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
    """

    steps: int = 2_000
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1.0
    memory: float = 0.998
    patience: int = 4


class _State(eqx.Module):
    """What one chunk hands to the next."""

    parameters: Any
    average: Any
    adam: Any
    step: Array


def fit_backbone(
    flow: CouplingFlow,
    train: Rows,
    val: Rows,
    settings: BackboneSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener,
    keeper: Keeper | None = None,
) -> tuple[CouplingFlow, float]:
    """Fit `flow`; returns the average of its weights with the best validation score, and that.

    The score is the mean negative log-likelihood in nats, data units. `keeper` is offered the
    state after every chunk, as the stage `"backbone"`.

    Raises:
        InputError: the likelihood was never finite.
        Interrupted: the keeper was asked to stop.
    """
    keeper = keeper or KeepsNothing()
    validation_key, key = jr.split(key)
    y, log_det = val.every(validation_key, VALIDATION_DRAWS)
    y, log_det = y.reshape(-1, y.shape[-1]), log_det.ravel()
    units_stay = eqx.tree_at(lambda f: f.units, jax.tree.map(eqx.is_inexact_array, flow), False)
    parameters, frozen = eqx.partition(flow, units_stay)
    state = _State(parameters, parameters, optimiser.ADAM.init(parameters), jnp.asarray(0))
    traced = {n: jnp.asarray(getattr(settings, n)) for n in ("steps", "rate", "decay", "memory")}
    best, best_nll, best_step, done = parameters, math.inf, 0, 0
    if found := keeper.last("backbone", (state, best, key)):
        (state, best, key), plain = found
        best_nll, best_step, done = plain["best_nll"], plain["best_step"], plain["step"]
    for step in range(done + CHUNK, settings.steps + CHUNK, CHUNK):
        key, chunk_key = jr.split(key)
        state, nll_train = _chunk(state, frozen, train, chunk_key, settings.batch, traced)
        nll = float(_nll(eqx.combine(state.average, frozen), y, log_det))
        if nll < best_nll:
            best, best_nll, best_step = state.average, nll, step
        listen(
            "backbone",
            "progress",
            step=step,
            steps=settings.steps,
            nll_train=float(nll_train),
            nll_val=nll,
        )
        if step - best_step >= CHUNK * settings.patience:
            break
        kept = {"best_nll": best_nll, "best_step": best_step, "step": step}
        keeper.offer("backbone", step, (state, best, key), kept)
    if best_step == 0:
        raise InputError(
            f"the backbone's likelihood was never finite at rate {settings.rate}: lower the "
            f"rate, or look for extreme values in the data"
        )
    listen("backbone", "kept", step=best_step, nll_val=best_nll)
    return eqx.combine(best, frozen), best_nll


@eqx.filter_jit
def _chunk(
    state: _State,
    frozen: CouplingFlow,
    train: Rows,
    key: PRNGKeyArray,
    batch: int,
    settings: dict[str, Array],
) -> tuple[_State, Array]:
    """`CHUNK` steps in one program, and their mean negative log-likelihood."""

    def loss(parameters: Any, key: PRNGKeyArray) -> Array:
        flow = eqx.combine(parameters, frozen)
        rows_key, dropout_key = jr.split(key)
        y, log_det = train.batch(rows_key, batch)
        keys = jr.split(dropout_key, batch)
        return -jnp.mean(jax.vmap(flow.training_log_prob)(y, keys) + log_det)

    def step(state: _State, key: PRNGKeyArray) -> tuple[_State, Array]:
        nll, gradient = jax.value_and_grad(loss)(state.parameters, key)
        rate = optimiser.cosine(state.step, settings["steps"], settings["rate"], FINAL_RATE)
        parameters, adam = optimiser.update(
            state.parameters, gradient, state.adam, rate, settings["decay"]
        )
        average = optimiser.moving_average(state.average, parameters, settings["memory"])
        return _State(parameters, average, adam, state.step + 1), nll

    state, nlls = jax.lax.scan(step, state, jr.split(key, CHUNK))
    return state, jnp.mean(nlls)


@eqx.filter_jit
def _nll(flow: CouplingFlow, y: Array, log_det: Array) -> Array:
    return -jnp.mean(jax.vmap(flow.log_prob_coordinates)(y) + log_det)
