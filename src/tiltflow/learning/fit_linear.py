"""A linear tilt of an ensemble, by maximum likelihood: convex, and without a chain.

Its log-likelihood, mean f of held-out rows - log E_q exp f, is concave in the weights; E_q is over
exact draws. Then f gets a ceiling, `CEILING` nats above log E_q exp f: a product of powers may
have a tail that is heavier than q's, where a few draws would carry log Z and chains of exact draws
stand still. The ceiling costs held-out rows next to nothing.

What is told is cross-fitted: weights from one half of the validation rows and of the draws, the
gain on the other halves, and the other way round. A tilt whose gain is not above its own standard
error is refused: then f = 0, and the model is its backbone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from tiltflow.backbones import Ensemble
from tiltflow.learning.early_stopping import Listener, silent
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import TiltSettings
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.exact import exact, in_parts
from tiltflow.parallel.devices import over_devices
from tiltflow.tilts import Tilt
from tiltflow.tilts.linear import LinearTilt, features

RIDGES = (2e-3, 2e-2, 0.2)  # nats, of the squared weights
CEILING = 3.0  # nats of f above log E_q exp f: no draw weighs much more than 20 others
FEWEST_ROWS = 20  # held-out rows, in two halves


class CrossFitted(NamedTuple):
    """What weights from one half are worth on the other.

    Attributes:
        gain, error: mean and standard error, nats a row.
        share: of the draws that are effective, in the worse half.
        ridge: that it was found with.
        features: that it is linear in: all, or all but the network.
    """

    gain: float
    error: float
    share: float
    ridge: float
    features: int

    @property
    def is_taken(self) -> bool:
        """Whether it is worth having."""
        return self.gain > self.error


class Weighed(NamedTuple):
    """Weights of features, and the ceiling of what they make."""

    weights: Float[np.ndarray, " features"]
    ceiling: float

    def f(self, rows: Float[np.ndarray, "*rows features"]) -> Float[np.ndarray, "*rows"]:
        """Below its ceiling."""
        g = rows @ self.weights
        return g - np.logaddexp(0.0, g - self.ceiling)


def fit_linear(
    ensemble: Ensemble,
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
        val: rows, in any units; no member was learned from them.
        settings: its `bank` is the number of exact draws, its `judge_rows` that of rows, at most,
            and its `judge_draws` that of dequantisations of each.
        key: random key.
        network: one more feature, learned before; its weight is 0 where it is not worth having.
        listen: is told the gain.
    """
    draws_key, val_key = jr.split(key)
    val = val.through(ensemble).first(settings.judge_rows)
    held_out = val.embedded(val_key, settings.judge_draws)
    of_rows = np.asarray(held_out.rows[0])[: int(held_out.count)]
    rows = _features(ensemble, network, of_rows)
    rows = rows.reshape(len(val), -1, rows.shape[-1])
    draws = _features(ensemble, network, exact(ensemble, draws_key, settings.bank).c)
    number = rows.shape[-1]
    told = CrossFitted(0.0, 0.0, 1.0, RIDGES[0], number)
    found = Weighed(np.zeros(number), np.inf)
    if len(rows) >= FEWEST_ROWS:
        numbers = (number,) if network is None else (number - 1, number)
        each = [
            cross_fitted(rows[..., :n], draws[:, :n], ridge) for n in numbers for ridge in RIDGES
        ]
        told = max(each, key=lambda one: (one.is_taken, one.gain - one.error))
    if told.is_taken:
        some = told.features
        found = weigh(rows[..., :some], draws[::2, :some], told.ridge)
        found = found._replace(weights=np.pad(found.weights, (0, number - some)))
    judgement = _judged(found, rows, draws[1::2], told.gain if told.is_taken else 0.0)
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
        weights=[round(float(w), 4) for w in found.weights],
    )
    tilt = LinearTilt(
        ensemble,
        jnp.asarray(found.weights),
        judgement.level,
        ceiling=found.ceiling,
        network=network,
    )
    return tilt, judgement, told


def cross_fitted(
    rows: Float[np.ndarray, "rows draws features"],
    draws: Float[np.ndarray, "bank features"],
    ridge: float,
) -> CrossFitted:
    """The gain of weights on the halves that they were not fitted to."""
    gains, variance, shares = [], 0.0, []
    for own, other in ((0, 1), (1, 0)):
        found = weigh(rows[own::2], draws[own::2], ridge)
        f = found.f(draws[other::2])
        gains.append(found.f(rows[other::2]).mean(axis=1) - _log_mean_exp(f))
        shares.append(_share(f))
        variance += (1 / shares[-1] - 1) / len(f) / 4  # of log Z, by the delta method
    both = np.concatenate(gains)
    error = float(np.sqrt(np.var(both) / len(both) + variance))
    return CrossFitted(float(np.mean(both)), error, min(shares), ridge, rows.shape[-1])


def weigh(
    rows: Float[np.ndarray, "rows draws features"],
    draws: Float[np.ndarray, "bank features"],
    ridge: float,
) -> Weighed:
    """The best weights, and a ceiling above their mean weight."""
    weights = best_weights(rows.mean(axis=1), draws, ridge)
    return Weighed(weights, CEILING + _log_mean_exp(draws @ weights))


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


def _judged(found: Weighed, rows: np.ndarray, draws: np.ndarray, gain: float) -> Judgement:
    """What draws that no weight was fitted to say of f, at the level where E_p f = 0."""
    f = found.f(draws)
    level, log_z, share = softmax(f) @ f, _log_mean_exp(f), _share(f)
    of_rows = np.mean(found.f(rows))
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


def _features(
    ensemble: Ensemble, network: Tilt | None, c: Float[np.ndarray, "rows dim"]
) -> Float[np.ndarray, "rows features"]:
    parts = [_features_of_part(ensemble, network, part) for part in in_parts(c)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])[: len(c)]


@over_devices
def _features_of_part(ensemble: Ensemble, network: Tilt | None, c: Array) -> Array:
    return jax.vmap(lambda c: features(ensemble, c, network))(c)
