"""A linear tilt of an ensemble, by maximum likelihood: convex, and without a chain.

Its log-likelihood, mean f of held-out rows - log E_q exp f, is concave in the weights; E_q is over
exact draws. What is told is cross-fitted: weights from one half of the validation rows and of the
draws, the gain on the other halves, and the other way round. A tilt whose gain is not above its
own standard error, or that leaves few effective draws or a heavy tail of exp f, is refused: then
f = 0, and the model is its backbone.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from tiltflow.backbones import Ensemble
from tiltflow.learning.early_stopping import Listener, silent
from tiltflow.learning.filled import Filled, with_room
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import TiltSettings
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.exact import exact
from tiltflow.normalizer.pareto import pareto_k
from tiltflow.parallel.devices import over_devices_once
from tiltflow.tilts.linear import LinearTilt, features

RIDGES = (2e-3, 2e-2, 0.2)  # nats, of the squared weights
LEAST_SHARE = 0.1  # of the draws that are effective
HEAVIEST = 0.4  # Pareto k-hat of exp f
LARGEST = 30.0  # times the mean, of exp f at a draw: chains of exact draws stand still there
FEWEST_ROWS = 20  # held-out rows, in two halves


class CrossFitted(NamedTuple):
    """What weights from one half are worth on the other.

    Attributes:
        gain, error: mean and standard error, nats a row.
        share: of the draws that are effective, in the worse half.
        k, largest: Pareto k-hat of exp f, and its largest value over its mean, in the worse half.
        ridge: that it was found with.
    """

    gain: float
    error: float
    share: float
    k: float
    largest: float
    ridge: float

    @property
    def is_taken(self) -> bool:
        """Whether it is worth having."""
        moves = self.share > LEAST_SHARE and self.k <= HEAVIEST and self.largest <= LARGEST
        return self.gain > self.error and moves


def fit_linear(
    ensemble: Ensemble,
    val: Rows,
    settings: TiltSettings,
    *,
    key: PRNGKeyArray,
    listen: Listener = silent,
) -> tuple[LinearTilt, Judgement, CrossFitted]:
    """The linear tilt that suits the validation rows, what is said of it, and its worth.

    Args:
        ensemble: that is tilted.
        val: rows, in any units; no member was learned from them.
        settings: its `bank` is the number of exact draws, its `judge_rows` that of rows, at most,
            and its `judge_draws` that of dequantisations of each.
        key: random key.
        listen: is told the gain.
    """
    draws_key, val_key = jr.split(key)
    val = val.through(ensemble).first(settings.judge_rows)
    held_out = val.embedded(val_key, settings.judge_draws)
    rows = _features(ensemble, Filled(held_out.rows[0], held_out.count))
    rows = rows.reshape(len(val), -1, rows.shape[-1]).mean(axis=1)  # f is linear in them
    c = exact(ensemble, draws_key, settings.bank).c
    draws = _features(ensemble, Filled(jnp.asarray(with_room(c)), jnp.asarray(len(c))))
    told, weights = CrossFitted(0.0, 0.0, 1.0, 0.0, 1.0, RIDGES[0]), np.zeros(rows.shape[1])
    if len(rows) >= FEWEST_ROWS:
        each = [cross_fitted(rows, draws, ridge) for ridge in RIDGES]
        told = max(each, key=lambda one: (one.is_taken, one.gain - one.error))
    if told.is_taken:
        weights = best_weights(rows, draws[::2], told.ridge)
    judgement = _judged(weights, rows, draws[1::2], told.gain if told.is_taken else 0.0)
    listen(
        "tilt",
        "kept",
        learner="linear",
        stage=0,
        step=0,
        gain_val=float(judgement.gain_val),
        crossfitted=told.gain,
        error=told.error,
        share=told.share,
        k=told.k,
        largest=told.largest,
        weights=[round(float(w), 4) for w in weights],
    )
    return LinearTilt(ensemble, jnp.asarray(weights), judgement.level), judgement, told


def cross_fitted(
    rows: Float[np.ndarray, "rows features"],
    draws: Float[np.ndarray, "draws features"],
    ridge: float,
) -> CrossFitted:
    """The gain of weights on the halves that they were not fitted to."""
    gains, variance, shares, tails, peaks = [], 0.0, [], [], []
    for own, other in ((0, 1), (1, 0)):
        weights = best_weights(rows[own::2], draws[own::2], ridge)
        f = draws[other::2] @ weights
        gains.append(rows[other::2] @ weights - _log_mean_exp(f))
        shares.append(_share(f))
        tails.append(pareto_k(f))
        peaks.append(float(np.exp(f.max() - _log_mean_exp(f))))
        variance += (1 / shares[-1] - 1) / len(f) / 4  # of log Z, by the delta method
    both = np.concatenate(gains)
    error = float(np.sqrt(np.var(both) / len(both) + variance))
    told = (min(shares), max(tails), max(peaks))
    return CrossFitted(float(np.mean(both)), error, *told, ridge)


def best_weights(
    rows: Float[np.ndarray, "rows features"],
    draws: Float[np.ndarray, "draws features"],
    ridge: float,
) -> Float[np.ndarray, " features"]:
    """Of the largest likelihood of the rows, less a ridge; E_q is over the draws."""
    of_rows = rows.mean(axis=0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        f = draws @ weights
        slope = softmax(f) @ draws - of_rows + 2 * ridge * weights
        return _log_mean_exp(f) - of_rows @ weights + ridge * weights @ weights, slope

    return minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x


def _judged(weights: np.ndarray, rows: np.ndarray, draws: np.ndarray, gain: float) -> Judgement:
    """What draws that no weight was fitted to say of f, at the level where E_p f = 0."""
    f = draws @ weights
    level, log_z, share = softmax(f) @ f, _log_mean_exp(f), _share(f)
    of_rows = np.mean(rows @ weights)
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


def _log_mean_exp(f: np.ndarray) -> float:
    return float(logsumexp(f) - np.log(len(f)))


def _share(f: np.ndarray) -> float:
    """The effective share of draws with the weights exp f."""
    weights = softmax(f)
    return float(1 / np.sum(weights**2) / len(f))


def _features(ensemble: Ensemble, c: Filled) -> Float[np.ndarray, "rows features"]:
    return np.asarray(_features_of(ensemble, c), np.float64)[: int(c.count)]


@over_devices_once
def _features_of(ensemble: Ensemble, c: Filled) -> Array:
    return c.map(lambda c: features(ensemble, c))
