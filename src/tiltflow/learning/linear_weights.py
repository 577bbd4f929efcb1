"""Weights of features by maximum likelihood of exp f over draws: concave, and without a chain.

The log-likelihood, mean f of rows - log E_q exp f, has one maximum; E_q is over exact draws of q.
There the model's mean of every feature is that of the rows, but for a ridge. Then f gets a ceiling,
`CEILING` nats above log E_q exp f: a product of powers may have a tail that is heavier than q's,
where a few draws would carry log Z and chains of exact draws stand still. The ceiling costs
held-out rows next to nothing.

What such weights are worth is cross-fitted: found on one half of the held-out rows and of the
draws, told by the other halves, and the other way round.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp, softmax

from tiltflow.tilts.linear import below

RIDGES = (2e-3, 2e-2, 0.2)  # nats, of the squared weights of members and network
RIDGE_OF_KINDS = 2e-3
CEILING = 3.0  # nats of f above log E_q exp f: no draw weighs much more than 20 others
CLOSE = 1e-9  # nats that a Newton step has to promise
MOST_STEPS = 50
SHORTEST = 1e-6  # share of a step
LEAST_SHARE = 1e-4  # of what a step promises, that it has to bring (Armijo's rule)


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
        return below(self.ceiling, rows @ self.weights)


def cross_fitted(sides: Sides, ridge: float, features: Int[np.ndarray, " some"]) -> CrossFitted:
    """The gain of weights of these features on the halves that they were not fitted to."""
    gains, variance, shares = [], 0.0, []
    for own, other in ((0, 1), (1, 0)):
        found, others = weigh(sides.half(own), ridge, features), sides.half(other)
        f = found.f(others.draws)
        gains.append(found.f(others.rows).mean(axis=1) - log_mean_exp(f))
        shares.append(effective_share(f))
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
    return Weighed(weights, CEILING + log_mean_exp(draws @ some))


def best_weights(
    of_rows: Float[np.ndarray, " features"],
    draws: Float[np.ndarray, "draws features"],
    ridges: Float[np.ndarray, " features"],
) -> Float[np.ndarray, " features"]:
    """Of the largest likelihood of rows of this mean, less a ridge; E_q is over the draws.

    By Newton's steps, halved until they gain: the likelihood is concave and its curvature is the
    covariance of the features under the tilted draws.
    """

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        f = draws @ weights
        return log_mean_exp(f) + float((ridges * weights - of_rows) @ weights), f

    weights = np.zeros(len(of_rows))
    value, f = loss(weights)
    for _ in range(MOST_STEPS):
        p = softmax(f)
        mean, scaled = p @ draws, np.sqrt(p)[:, None] * draws
        slope = mean - of_rows + 2 * ridges * weights
        curvature = scaled.T @ scaled - np.outer(mean, mean) + 2 * np.diag(ridges)
        step = np.linalg.solve(curvature, slope)
        foreseen = slope @ step
        if foreseen < CLOSE:
            break
        share = 1.0
        reached, f = loss(weights - step)
        while reached > value - LEAST_SHARE * share * foreseen and share > SHORTEST:
            share /= 2
            reached, f = loss(weights - share * step)
        weights, value = weights - share * step, reached
    return weights


def log_mean_exp(f: np.ndarray) -> float:
    """The logarithm of the mean of exp f."""
    return float(logsumexp(f) - np.log(len(f)))


def effective_share(f: np.ndarray) -> float:
    """The effective share of draws with the weights exp f."""
    weights = softmax(f)
    return float(1 / np.sum(weights**2) / len(f))
