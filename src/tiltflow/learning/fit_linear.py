"""A linear tilt of an ensemble, from held-out rows and exact draws (`linear_weights.py`).

Members have learned training rows by heart, so that only held-out ones tell of their log-ratios; of
what kinds there are, training rows tell as well, and better. A tilt whose cross-fitted gain is not
above its own standard error is refused: then f = 0, and the model is its backbone.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.special import softmax

from tiltflow.backbones import Ensemble
from tiltflow.learning.early_stopping import Listener, silent
from tiltflow.learning.linear_weights import (
    RIDGES,
    CrossFitted,
    Sides,
    Weighed,
    cross_fitted,
    effective_share,
    log_mean_exp,
    weigh,
)
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import TiltSettings
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.exact import exact
from tiltflow.model.told import features_of, told_of
from tiltflow.tilts import Tilt
from tiltflow.tilts.linear import LinearTilt

FEWEST_ROWS = 20  # held-out rows, in two halves


def fit_linear(
    ensemble: Ensemble,
    train: Rows,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
    network: Tilt | None = None,
    listen: Listener = silent,
) -> tuple[LinearTilt, Judgement, CrossFitted]:
    """The linear tilt that suits the validation rows, what is said of it, and its worth.

    Args:
        ensemble: that is tilted.
        train: rows that its members were learned from, in any units.
        val: rows that no member was learned from.
        settings: its `bank` is the number of exact draws, its `judge_rows` that of rows, at most,
            and its `judge_draws` that of dequantisations of each.
        key: random key.
        network: one more feature, learned before; its weight is 0 where it is not worth having.
        listen: is told the gain.
    """
    draws_key, val_key, train_key = jr.split(key, 3)
    val = val.through(ensemble).first(settings.judge_rows)
    held_out = val.embedded(val_key, settings.judge_draws)
    of_rows = np.asarray(held_out.rows[0])[: int(held_out.count)]
    kinds = tells_kinds(ensemble)
    rows = features_of(ensemble, network, of_rows, kinds=kinds)
    members = 1 + len(ensemble.log_weights)
    sides = Sides(
        rows.reshape(len(val), -1, rows.shape[-1]),
        features_of(ensemble, network, exact(ensemble, draws_key, settings.bank).c, kinds=kinds),
    )
    if kinds:
        learned = train.through(ensemble).first(settings.judge_rows)
        c = learned.embedded(train_key, 1).rows[0]
        found = told_of(ensemble, np.asarray(c)[: len(learned)]).kinds
        of_kinds = slice(members, members + found.shape[1])
        sides = sides._replace(kinds=of_kinds, learned=found.mean(axis=0), number=len(learned))
    number = rows.shape[-1]
    told = CrossFitted(0.0, 0.0, 1.0, RIDGES[0], np.arange(number))
    found = Weighed(np.zeros(number), np.inf)
    if len(val) >= FEWEST_ROWS:
        told = _best(sides, members, number)
    if told.is_taken:
        found = weigh(sides._replace(draws=sides.draws[::2]), told.ridge, told.features)
    gain = told.gain if told.is_taken else 0.0
    judgement = _judged(found, sides._replace(draws=sides.draws[1::2]), gain)
    listen(
        "tilt",
        "kept",
        learner=settings.learner,
        stage=0,
        step=0,
        gain_val=float(judgement.gain_val),
        crossfitted=told.gain,
        error=told.error,
        share=told.share,
        weights=[round(float(w), 4) for w in np.delete(found.weights, sides.kinds)],
    )
    tilt = LinearTilt(
        ensemble,
        jnp.asarray(found.weights),
        judgement.level,
        ceiling=found.ceiling,
        network=network,
        kinds=kinds,
    )
    return tilt, judgement, told


def tells_kinds(ensemble: Ensemble) -> bool:
    """Whether it has components that tell kinds of rows apart."""
    return ensemble.number_of_kinds > 1


def _best(sides: Sides, members: int, number: int) -> CrossFitted:
    """The best ridge for the members alone, and the best of what may stand beside them."""

    def better(told: CrossFitted) -> tuple[bool, float]:
        return told.is_taken, told.gain - told.error

    alone = np.arange(members)
    first = max((cross_fitted(sides, ridge, alone) for ridge in RIDGES), key=better)
    kinds = np.arange(number)[sides.kinds]
    network = np.setdiff1d(np.arange(members, number), kinds)
    beside = [x for x in (kinds, network) if len(x)]
    if len(beside) == 2:
        beside.append(np.arange(members, number))
    found = [cross_fitted(sides, first.ridge, np.concatenate([alone, x])) for x in beside]
    return max([first, *found], key=better)


def _judged(found: Weighed, sides: Sides, gain: float) -> Judgement:
    """What draws that no weight was fitted to say of f, at the level where E_p f = 0."""
    f = found.f(sides.draws)
    level, log_z, share = softmax(f) @ f, log_mean_exp(f), effective_share(f)
    of_rows = np.mean(found.f(sides.rows))
    numbers = {
        "gain_train": of_rows - log_z,  # of the rows that the weights were fitted to
        "gain_val": gain,
        "level": level,
        "log_z": log_z - level,
        "f_val": of_rows - level,
        "ess_bank": len(f) * share,
        "ess_witnesses": len(f) * share,
        "running": log_z - level,
        "learners": log_z - level,
    }
    told = {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}
    return Judgement(**told, holds=jnp.asarray(True))
