"""Chunks of optimiser steps until the validation score has not improved for a while.

The start is scored, too, and kept if nothing beats it.

What is judged, and kept, is the moving average of the weights. Flows and generators are learned by
this one loop; each brings its own compiled chunk and its own score.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.learning import optimiser
from tiltflow.learning.keeping import Keeper, KeepsNothing

CHUNK = 250  # compiled steps between two looks at the validation data
FINAL_RATE = 0.02  # of the cosine, as a share of the first
STAGE = "backbone"
Listener = Callable[..., Any]  # called as (phase, event, **fields)


def silent(phase: str, event: str, **fields: Any) -> None:
    """The listener of those who do not want to be told."""


class Found(NamedTuple):
    """What `descend` returns.

    Attributes:
        best: the average of the weights with the best score.
        nll: its score, in nats a row.
        step: at which it was found; 0: nothing has beaten the start.
        steps: that were planned.
        seconds: of a step, compiling left out; NaN if there was one chunk only.
    """

    best: Any
    nll: float
    step: int
    steps: int
    seconds: float


class Descent(eqx.Module):
    """What one chunk hands to the next."""

    parameters: Any
    average: Any
    adam: Any
    step: Array


def begin(parameters: Any) -> Descent:
    """Before the first step."""
    return Descent(parameters, parameters, optimiser.ADAM.init(parameters), jnp.zeros((), int))


def stepped(state: Descent, gradient: Any, settings: Mapping[str, Array]) -> Descent:
    """One step of Adam, and of the moving average; `settings` are steps, rate, decay, memory."""
    rate = optimiser.cosine(state.step, settings["steps"], settings["rate"], FINAL_RATE)
    parameters, adam = optimiser.update(
        state.parameters, gradient, state.adam, rate, settings["decay"]
    )
    average = optimiser.moving_average(state.average, parameters, settings["memory"])
    return Descent(parameters, average, adam, state.step + 1)


def descend(
    parameters: Any,
    chunk: Callable[[Descent, PRNGKeyArray, Array], tuple[Descent, Array]],
    score: Callable[[Any], Array],
    *,
    steps: int,
    patience: int,
    patient_until: float,
    what: str,
    rate: float,
    key: PRNGKeyArray,
    listen: Listener,
    keeper: Keeper | None,
    stage: str = STAGE,
    left: Callable[[float], float] | None = None,
    rises: float = math.inf,
) -> Found:
    """The average of the weights with the best score.

    Args:
        parameters: a pytree of arrays, where it starts.
        chunk: `CHUNK` steps, of as many in all; returns the mean loss with it.
        score: of an average on validation rows, lower is better.
        steps: at most.
        patience: chunks without a better score before it stops.
        patient_until: up to this step it does not stop.
        what: names what is learned in the message, as "backbone's likelihood".
        rate: named in the message.
        key: random key.
        listen: told after every chunk.
        keeper: offered the state after every chunk, as the stage.
        stage: its name, also to the listener.
        left: seconds that are left for it, if a step takes so many; NaN: not known. Steps that do
            not fit in are taken off the plan, along which the rate falls, for as long as they seem
            not to.
        rises: chunks in a row, each with a worse score than the one before, at which it stops: by
            then rows are learned by heart. Some scores rise for three and fall far below after.

    Raises:
        InputError: the score was never finite.
        Interrupted: the keeper was asked to stop.
    """
    keeper = keeper or KeepsNothing()
    state = begin(parameters)
    best, best_step, done, nll, risen = parameters, 0, 0, math.nan, 0
    if found := keeper.last(stage, (state, best, key)):
        (state, best, key), plain = found
        best_nll, best_step, done = plain["best_nll"], plain["best_step"], plain["step"]
        nll, risen = plain.get("nll", math.nan), plain.get("risen", 0)
    else:
        best_nll = float(score(parameters))
        listen(stage, "began", nll_val=best_nll)
    seconds, step, planned = math.nan, done, steps
    while step < steps:
        began = time.monotonic()
        key, chunk_key = jr.split(key)
        state, nll_train = chunk(state, chunk_key, jnp.asarray(steps))
        before, nll = nll, float(score(state.average))
        risen = risen + 1 if nll > before else 0
        step += CHUNK
        if nll < best_nll or not math.isfinite(best_nll):
            best, best_nll, best_step = state.average, nll, step
        told = {"nll_train": float(nll_train), "nll_val": nll}
        if step > done + CHUNK:  # the first may have been compiled
            seconds = (time.monotonic() - began) / CHUNK
        if left is not None:
            steps = that_fit(step, planned, seconds, left(seconds))
        listen(stage, "progress", step=step, steps=steps, **told)
        is_in_vain = step - best_step >= CHUNK * patience or risen >= rises
        if step > patient_until and is_in_vain:
            break
        kept = {"best_nll": best_nll, "best_step": best_step, "step": step}
        kept |= {"nll": nll, "risen": risen}
        keeper.offer(stage, step, (state, best, key), kept)
    if not math.isfinite(best_nll) or (best_step == 0 and not math.isfinite(nll)):
        raise InputError(
            f"the {what} was never finite at rate {rate}: lower the rate, or look for extreme "
            f"values in the data"
        )
    listen(stage, "kept", step=best_step, nll_val=best_nll)
    return Found(best, best_nll, best_step, steps, seconds)


def that_fit(step: int, steps: int, seconds: float, left: float) -> int:
    """How many steps in all there is time for after `step`, of `seconds` each; NaN: not known."""
    if left <= 0:
        return step
    if not math.isfinite(seconds):
        return steps
    more = round(left / seconds / CHUNK) * CHUNK
    return min(steps, step + max(more, 0))
