"""A linear tilt of an ensemble, by maximum likelihood: convex, and without a chain.

Its log-likelihood, mean f of held-out rows - log E_q exp f, is concave in the weights; E_q is over
exact draws. Members have learned training rows by heart, so that only held-out ones tell of their
log-ratios; of what kinds there are, training rows tell as well, and better. Then f gets a ceiling,
`CEILING` nats above log E_q exp f: a product of powers may have a tail that is heavier than q's,
where a few draws would carry log Z and chains of exact draws stand still. The ceiling costs
held-out rows next to nothing.

What is told is cross-fitted: weights from one half of the validation rows and of the draws, the
gain on the other halves, and the other way round. A tilt whose gain is not above its own standard
error is refused: then f = 0, and the model is its backbone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from tiltflow.backbones import Ensemble, MixtureDensity
from tiltflow.learning.early_stopping import Listener, silent
from tiltflow.learning.rows import Rows
from tiltflow.learning.state import TiltSettings
from tiltflow.learning.witnesses import Judgement
from tiltflow.model.exact import exact, in_parts
from tiltflow.parallel.devices import over_devices
from tiltflow.tilts import Tilt
from tiltflow.tilts.linear import LinearTilt, features

RIDGES = (2e-3, 2e-2, 0.2)  # nats, of the squared weights of members and network
RIDGE_OF_KINDS = 5e-4
CEILING = 3.0  # nats of f above log E_q exp f: no draw weighs much more than 20 others
FEWEST_ROWS = 20  # held-out rows, in two halves


class CrossFitted(NamedTuple):
    """What weights from one half are worth on the other.

    Attributes:
        gain, error: mean and standard error, nats a row.
        share: of the draws that are effective, in the worse half.
        ridge: that it was found with.
        features: the places of those that it is linear in.
    """

    gain: float
    error: float
    share: float
    ridge: float
    features: Int[np.ndarray, " some"]

    @property
    def is_taken(self) -> bool:
        """Whether it is worth having."""
        return self.gain > self.error


class Sides(NamedTuple):
    """The features of the rows, and of draws of the ensemble.

    Attributes:
        rows: of each held-out row.
        draws: of exact draws.
        kinds: the places of features that tell kinds.
        learned: the mean of these over rows that members were learned from.
        number: of such rows.
    """

    rows: Float[np.ndarray, "rows draws features"]
    draws: Float[np.ndarray, "bank features"]
    kinds: slice = slice(0)
    learned: Float[np.ndarray, " kinds"] = np.zeros(0)
    number: int = 0

    def half(self, which: int) -> "Sides":
        """Every other held-out row and draw, from this one on."""
        return self._replace(rows=self.rows[which::2], draws=self.draws[which::2])

    def target(self) -> Float[np.ndarray, " features"]:
        """The mean of every feature over the rows that tell of it."""
        mean = self.rows.mean(axis=(0, 1))
        share = self.number / (self.number + len(self.rows))
        mean[self.kinds] += share * (self.learned - mean[self.kinds])
        return mean


class Weighed(NamedTuple):
    """Weights of features, 0 of those that are not used, and the ceiling of what they make."""

    weights: Float[np.ndarray, " features"]
    ceiling: float

    def f(self, rows: Float[np.ndarray, "*rows features"]) -> Float[np.ndarray, "*rows"]:
        """Below its ceiling."""
        g = rows @ self.weights
        return g - np.logaddexp(0.0, g - self.ceiling)


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
    rows = _features(ensemble, network, of_rows)
    members = 1 + len(ensemble.log_weights)
    sides = Sides(
        rows.reshape(len(val), -1, rows.shape[-1]),
        _features(ensemble, network, exact(ensemble, draws_key, settings.bank).c),
    )
    if tells_kinds(ensemble):
        learned = train.through(ensemble).first(settings.judge_rows)
        c = learned.embedded(train_key, 1).rows[0]
        kinds = _kinds(ensemble, np.asarray(c)[: len(learned)])
        of_kinds = slice(members, members + kinds.shape[1])
        sides = sides._replace(kinds=of_kinds, learned=kinds.mean(axis=0), number=len(learned))
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
        kinds=tells_kinds(ensemble),
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


def cross_fitted(sides: Sides, ridge: float, features: Int[np.ndarray, " some"]) -> CrossFitted:
    """The gain of weights of these features on the halves that they were not fitted to."""
    gains, variance, shares = [], 0.0, []
    for own, other in ((0, 1), (1, 0)):
        found, others = weigh(sides.half(own), ridge, features), sides.half(other)
        f = found.f(others.draws)
        gains.append(found.f(others.rows).mean(axis=1) - _log_mean_exp(f))
        shares.append(_share(f))
        variance += (1 / shares[-1] - 1) / len(f) / 4  # of log Z, by the delta method
    both = np.concatenate(gains)
    error = float(np.sqrt(np.var(both) / len(both) + variance))
    return CrossFitted(float(np.mean(both)), error, min(shares), ridge, features)


def weigh(sides: Sides, ridge: float, features: Int[np.ndarray, " some"]) -> Weighed:
    """The best weights of these features, and a ceiling above their mean weight."""
    ridges = np.full(sides.draws.shape[1], ridge)
    ridges[sides.kinds] = RIDGE_OF_KINDS
    draws = sides.draws[:, features]
    some = best_weights(sides.target()[features], draws, ridges[features])
    weights = np.zeros(len(ridges))
    weights[features] = some
    return Weighed(weights, CEILING + _log_mean_exp(draws @ some))


def best_weights(
    of_rows: Float[np.ndarray, " features"],
    draws: Float[np.ndarray, "draws features"],
    ridges: Float[np.ndarray, " features"],
) -> Float[np.ndarray, " features"]:
    """Of the largest likelihood of rows of this mean, less a ridge; E_q is over the draws."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        f, paid = draws @ weights, ridges * weights
        slope = softmax(f) @ draws - of_rows + 2 * paid
        return float(_log_mean_exp(f) - of_rows @ weights + paid @ weights), slope

    return minimize(loss, np.zeros(len(of_rows)), jac=True, method="L-BFGS-B").x


def _judged(found: Weighed, sides: Sides, gain: float) -> Judgement:
    """What draws that no weight was fitted to say of f, at the level where E_p f = 0."""
    f = found.f(sides.draws)
    level, log_z, share = softmax(f) @ f, _log_mean_exp(f), _share(f)
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
    kinds = tells_kinds(ensemble)
    return jax.vmap(lambda c: features(ensemble, c, network, kinds=kinds))(c)


def _kinds(
    ensemble: Ensemble, c: Float[np.ndarray, "rows dim"]
) -> Float[np.ndarray, "rows components"]:
    mixtures = tuple(x for x in ensemble.members if isinstance(x, MixtureDensity))
    parts = [_kinds_of_part(mixtures, part) for part in in_parts(c)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])[: len(c)]


@over_devices
def _kinds_of_part(mixtures: tuple[MixtureDensity, ...], c: Array) -> Array:
    joint = [jax.vmap(mixture.joint)(c) for mixture in mixtures]
    return jnp.concatenate([jax.nn.softmax(x) for x in joint], axis=1)
