"""log Z as a log-mean of weights: exact draws of q, each weighing exp f.

    log Z = log 1/n sum_i exp f(x_i),    x_i ~ q

Unbiased in Z, and as good as the weights are even: where p has mass that q seldom visits the
mean rests on a few draws, or on none, and Pareto k-hat is what can tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.normalizer.estimate import DISTRUST, LogZ
from tiltflow.normalizer.mean_error import half_width, of_independent
from tiltflow.normalizer.pareto import highest_trusted_k, pareto_k
from tiltflow.normalizer.values import over_q

LEAST_SIZE = 50.0
"""Effective draws below which a standard error is not believed."""


def importance(f_q: ArrayLike) -> LogZ:
    """log Z from `f_q` [n], f in nats at n independent exact draws of q.

    The standard error is that of the mean weight over the mean weight (delta method). It is
    trusted when k-hat is below min(1 - 1/log10 n, 0.7) and the effective size (sum w)^2 /
    sum w^2 is at least 50. Near those limits the interval is short of the tail that was not
    drawn: in simulations with k-hat 0.6 it covered 85 to 90%. The bridge has no such trouble.

    Raises:
        InputError: the shape is not [n], n < 2, or a value is not finite, other than -inf.
    """
    f = over_q(f_q)
    top = f.max()
    weights = np.exp(f - top)
    mean = weights.mean()
    log_z = float(top + np.log(mean))
    error = of_independent(weights / mean)
    half = half_width(error)
    size = float(weights.sum() ** 2 / np.sum(weights**2))
    k = pareto_k(f)
    limit = highest_trusted_k(len(f))
    reason = ""
    if not k < limit:
        reason = (
            f"Pareto k-hat {k:.2f} is not below {limit:.2f}, so unseen draws may carry more of"
            " Z than the seen ones"
        )
    elif size < LEAST_SIZE:
        reason = f"{size:.1f} effective draws are fewer than {LEAST_SIZE:.0f}"
    counted = f"{len(f)} draws of q weigh as much as {size:.0f} even ones, Pareto k-hat {k:.2f}."
    words = f"{DISTRUST}{reason}. Bridge to draws of p." if reason else counted
    return LogZ(
        mean=log_z,
        standard_error=error.variance**0.5,
        low=log_z - half,
        high=log_z + half,
        method="importance",
        ess_q=size,
        pareto_k=k,
        holds=not reason,
        words=words,
    )
