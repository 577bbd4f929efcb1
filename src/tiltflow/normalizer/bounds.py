"""Stochastic bounds of log Z from either side, with confidence.

An unbiased estimate of Z has, by Jensen's inequality, a logarithm that is too small on average;
an unbiased estimate of 1 / Z gives a number that is too large: Grosse, Ghahramani and Adams
(2015), "Sandwiching the marginal likelihood using bidirectional Monte Carlo", arXiv 1511.02543,
section 3. From independent groups the mean of either comes with an error, and a bound is moved
outwards by it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, stdtrit

from tiltflow.normalizer.values import Values

GROUPS = 32
"""Groups that independent draws are dealt into."""


class Side(NamedTuple):
    """log Z as it looks from one end.

    Attributes:
        mean: the logarithm of the mean of all estimates (from above: minus that).
        standard_error: of it, from the scatter of the groups.
        bound: 97.5% confidence that log Z is above it (from above: below it).
        size: how many estimates of equal weight these are worth.
        scatter: standard deviation of the groups' logarithms.
    """

    mean: float
    standard_error: float
    bound: float
    size: float
    scatter: float


def from_below(log_ratio: Values) -> Side:
    """From logs of unbiased estimates of Z, [groups, estimates], groups independent.

    NaN throughout where one is not finite.
    """
    if not np.isfinite(log_ratio).all():
        return Side(*[float("nan")] * 5)
    groups = log_ratio.shape[0]
    by_group = _log_mean_exp(log_ratio, axis=1)
    mean = float(_log_mean_exp(by_group, axis=0))
    weights = np.exp(by_group - mean)
    scatter = float(by_group.std(ddof=1))
    student = float(stdtrit(groups - 1, 0.975))
    return Side(
        mean=mean,
        standard_error=float(weights.std(ddof=1)) / groups**0.5,
        bound=float(by_group.mean()) - student * scatter / groups**0.5,
        size=_size(log_ratio.ravel()),
        scatter=scatter,
    )


def from_above(log_ratio: Values) -> Side:
    """From logs of unbiased estimates of 1 / Z, [groups, estimates], groups independent."""
    side = from_below(log_ratio)
    return side._replace(mean=-side.mean, bound=-side.bound)


def dealt(values: Values, groups: int = GROUPS) -> Values:
    """Independent `values` [n] as [groups, n // groups], at least two groups."""
    groups = max(2, min(groups, len(values) // 2))
    each = len(values) // groups
    return values[: groups * each].reshape(groups, each)


def _size(log_weights: Values) -> float:
    """(sum w)^2 / sum w^2."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / np.sum(weights**2))


def _log_mean_exp(values: Values, axis: int) -> Values:
    return np.asarray(logsumexp(values, axis=axis)) - np.log(values.shape[axis])
