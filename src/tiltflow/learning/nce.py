"""Noise-contrastive learning: which of these is data, and which a draw of the backbone?

Logistic regression with the logit f(c): at its optimum f = log(p_data / q), so that q cancels and
neither chains nor log q are needed (Gutmann and Hyvarinen 2010; the backbone is the noise, as the
flow is that Gao et al. 2020, arXiv 1912.00589, learn beside f). The logit has an offset that is
learned beside f; put into f's level it makes log Z near 0. Where the two are told apart without
error (data beside a surface that a generator without noise draws on) the optimum is infinite, and
that is said. Where the tilt begins with a mixture that is kept, draws of that are the noise: they
are nearer, and the rest of f is the logit.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone, Ensemble
from tiltflow.errors import InputError
from tiltflow.learning import optimiser
from tiltflow.learning.early_stopping import Listener, silent, that_fit
from tiltflow.learning.filled import Filled
from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.learning.objective import cross_entropy
from tiltflow.learning.particles import exact_draws
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import TiltSettings
from tiltflow.model.exact import exact, push_in_parts
from tiltflow.model.tilted import ExactDraws, TiltedModel
from tiltflow.parallel.devices import over_devices, spread
from tiltflow.tilts import MixtureTilt, Tilt, WithNoise
from tiltflow.tilts.base import freeze

STAGE = "nce"
CHUNK = 250  # compiled steps between two looks at the validation data
HELD_OUT = 4_000  # rows, and draws, that a look is at
BANK = 40_000  # draws of an ensemble
PATIENCE = 4  # looks without a better one
DEGENERATE = 0.999  # accuracy from which the classes count as separable


class Contrast(NamedTuple):
    """How well data and backbone were told apart, on held-out rows and draws.

    Attributes:
        loss: of logistic regression, nats; log 2 where nothing is told apart.
        accuracy: share of right answers.
        is_degenerate: whether they are separable, so that f has no finite optimum.
    """

    loss: float
    accuracy: float
    is_degenerate: bool


class _State(eqx.Module):
    """What one chunk hands to the next; the parameters are those of f, and the offset."""

    parameters: tuple[Any, Array]
    average: tuple[Any, Array]
    adam: Any
    step: Array


def fit_nce(
    backbone: Backbone,
    tilt: Tilt,
    train: Rows,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener = silent,
    keeper: Keeper | None = None,
    left: Callable[[], float] | None = None,
) -> tuple[Tilt, Contrast]:
    """Learn `tilt` by contrast with the backbone, or with the mixture that it begins with.

    The settings' `nce_steps`, `batch_data` (as many draws beside them), `rate`, `final_rate`,
    `decay`, `memory` and `class_weight` are used. What is kept is the average of the weights with
    the best held-out loss. `keeper` is offered the state after every chunk, as the stage `"nce"`.
    `left` are the seconds that it may take from now on (`early_stopping.that_fit`).

    Raises:
        InputError: the loss was never finite.
        Interrupted: the keeper was asked to stop.
    """
    keeper = keeper or KeepsNothing()
    train, val = train.through(backbone), val.through(backbone)
    row_key, draw_key, key = jr.split(key, 3)
    held_out = val.first(HELD_OUT).embedded(row_key, 1)
    y_val = held_out.rows[0]
    noise = _Noise.of(backbone, tilt, key=jr.fold_in(draw_key, 1))
    y_drawn = noise.apart(draw_key, len(y_val))
    looked_at = [Filled(y, held_out.count) for y in (y_val, y_drawn)]
    trained, frozen = freeze(tilt)
    parameters = (trained, jnp.zeros(()))
    state = _State(parameters, parameters, optimiser.ADAM.init(parameters), jnp.zeros((), int))
    steps, seconds = settings.nce_steps, math.nan
    traced = {
        name: jnp.asarray(getattr(settings, name))
        for name in ("rate", "final_rate", "decay", "memory", "class_weight")
    }
    best, best_told, best_step, done = parameters, Contrast(math.inf, 0.5, False), 0, 0
    if found := keeper.last(STAGE, (state, best, key)):
        (state, best, key), plain = found
        best_told, best_step, done = Contrast(*plain["told"]), plain["best_step"], plain["step"]
    step = done
    while step < steps:
        began = time.monotonic()
        key, chunk_key = jr.split(key)
        traced["nce_steps"] = jnp.asarray(steps)
        state = _chunk(state, frozen, noise, train, chunk_key, settings.batch_data, traced)
        step += CHUNK
        loss, accuracy = (float(v) for v in _told(state.average, frozen, noise, *looked_at))
        if loss < best_told.loss:
            best, best_step = state.average, step
            best_told = Contrast(loss, accuracy, accuracy >= DEGENERATE)
        if step > done + CHUNK:  # the first may have been compiled
            seconds = (time.monotonic() - began) / CHUNK
        if left is not None:
            steps = that_fit(step, settings.nce_steps, seconds, left())
        listen("tilt", "contrast", step=step, steps=steps, loss=loss, accuracy=accuracy)
        if step - best_step >= CHUNK * PATIENCE:
            break
        if best_step:
            kept = {"told": list(best_told), "best_step": best_step, "step": step}
            keeper.offer(STAGE, step, (state, best, key), kept)
        else:
            keeper.listen()
    if best_step == 0:
        raise InputError(f"the loss was never finite at rate {settings.rate:g}: lower it")
    if best_told.is_degenerate:
        why = (
            f"data and backbone are told apart {best_told.accuracy:.2%} of the time: f has no "
            f"finite optimum; give the generator noise, or the data"
        )
        listen("tilt", "health", step=best_step, action="none", why=why)
    trained, offset = best
    learned: Tilt = eqx.combine(trained, frozen)
    return eqx.tree_at(lambda t: t.level, learned, learned.level - offset - noise.level), best_told


class _Noise(eqx.Module):
    """What data are told apart from: exact draws of the backbone, or of a mixture over it.

    Attributes:
        backbone: of which, or over which.
        mixture: None: of the backbone.
        bank: `[BANK, dim]`, coordinates of draws; None: they are made when they are needed.
    """

    backbone: Backbone
    mixture: MixtureTilt | WithNoise | None
    bank: Float[Array, "bank dim"] | None

    @classmethod
    def of(cls, backbone: Backbone, tilt: Tilt, *, key: PRNGKeyArray) -> "_Noise":
        """The nearest density to the model that is known exactly."""
        known = TiltedModel(backbone, tilt).mixture
        if not isinstance(known, ExactDraws):
            return cls(backbone, known, None)
        is_dear = isinstance(backbone, Ensemble)
        return cls(backbone, None, jnp.asarray(exact(backbone, key, BANK).c) if is_dear else None)

    @property
    def level(self) -> Array:
        """That of the mixture."""
        return jnp.zeros(()) if self.mixture is None else self.mixture.level

    def apart(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """Coordinates of so many draws that are in no step."""
        if self.bank is not None:
            return jnp.asarray(exact(self.backbone, key, number).c)
        if self.mixture is not None:
            return push_in_parts(self.backbone, self.mixture.draw(key, number))
        return push_in_parts(self.backbone, exact_draws(self.backbone, key, number))

    def some(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """Coordinates of so many draws, inside of a program."""
        if self.bank is not None:
            return spread(self.bank[jr.randint(key, (number,), 0, len(self.bank))])
        draw = self.backbone.draws if self.mixture is None else self.mixture.draw
        u = draw(key, number)
        return jax.vmap(self.backbone.coordinates)(spread(u))

    def logit(self, tilt: Tilt, y: Array, key: PRNGKeyArray | None = None) -> Array:
        """What f says at coordinates y beyond the density of the draws."""
        known = 0.0 if self.mixture is None else self.mixture(y)
        return tilt(y, key) - known


def _loss(
    parameters: tuple[Any, Array],
    frozen: Any,
    noise: _Noise,
    rows: tuple[Array, Array | None],
    y_drawn: Array,
    key: PRNGKeyArray,
    class_weight: Array,
) -> Array:
    trained, offset = parameters
    tilt: Tilt = eqx.combine(trained, frozen)
    y_data, labels = rows
    y = jnp.concatenate([y_data, y_drawn])
    sign = jnp.where(jnp.arange(len(y)) < len(y_data), 1.0, -1.0)
    logits = jax.vmap(lambda y, key: noise.logit(tilt, y, key))(y, jr.split(key, len(y)))
    of_labels = class_weight * cross_entropy(tilt, y_data, labels, jr.fold_in(key, 1))
    return of_labels - jnp.mean(jax.nn.log_sigmoid(sign * (logits + offset)))


@over_devices
def _chunk(
    state: _State,
    frozen: Any,
    noise: _Noise,
    train: Rows,
    key: PRNGKeyArray,
    size: int,
    settings: dict[str, Array],
) -> _State:
    """`CHUNK` steps in one program; data and draws, `size` of each, are fresh in each."""

    def step(state: _State, key: PRNGKeyArray) -> tuple[_State, None]:
        data_key, draw_key, dropout_key = jr.split(key, 3)
        y_data, _, labels = train.labelled_batch(data_key, size)
        y_drawn = noise.some(draw_key, size)
        gradient = jax.grad(_loss)(
            state.parameters, frozen, noise, (y_data, labels), y_drawn, dropout_key,
            settings["class_weight"],
        )  # fmt: skip
        rate = optimiser.cosine(
            state.step, settings["nce_steps"], settings["rate"], settings["final_rate"]
        )
        parameters, adam = optimiser.update(
            state.parameters, gradient, state.adam, rate, settings["decay"]
        )
        average = optimiser.moving_average(state.average, parameters, settings["memory"])
        return _State(parameters, average, adam, state.step + 1), None

    return jax.lax.scan(step, state, jr.split(key, CHUNK))[0]


@over_devices
def _told(
    parameters: tuple[Any, Array], frozen: Any, noise: _Noise, data: Filled, drawn: Filled
) -> tuple[Array, Array]:
    """The loss, and the share of right answers, on as many draws as rows; no dropout."""
    trained, offset = parameters
    tilt: Tilt = eqx.combine(trained, frozen)

    def one(y: Array, sign: float) -> tuple[Array, Array]:
        logit = sign * (noise.logit(tilt, y) + offset)
        return -jax.nn.log_sigmoid(logit), (logit > 0).astype(y.dtype)

    of_data, of_drawn = data.mean(lambda y: one(y, 1.0)), drawn.mean(lambda y: one(y, -1.0))
    loss, accuracy = ((a + b) / 2 for a, b in zip(of_data, of_drawn, strict=True))
    return loss, accuracy
