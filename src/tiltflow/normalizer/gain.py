"""What the tilt is worth on test examples, with both reasons to doubt it in the interval.

    log p(x) - log q(x) = f(x) - log Z

The mean over a test set is uncertain because the test set is finite and because log Z is an
estimate. The two are independent: their variances, and the squares of their 95% half-widths,
add. Draws of the dequantisation noise of one example are no new examples; they are averaged
into one unit first.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.errors import InputError
from tiltflow.normalizer.estimate import LogZ
from tiltflow.normalizer.mean_error import half_width, of_independent
from tiltflow.normalizer.values import Values, finite_values

CERTAIN = LogZ(0.0, 0.0, 0.0, 0.0, method="none", ess_q=math.inf, holds=True)


@dataclass(frozen=True)
class Interval:
    """A mean over test examples in nats per example, with a 95% interval."""

    mean: float
    low: float
    high: float
    standard_error: float
    se_estimator: float
    """The part of log Z; the same for every example, so more test data does not shrink it."""
    se_test: float
    """The part of the finite test set."""
    holds: bool = True
    """Whether the log Z in it holds."""

    @classmethod
    def unknown(cls) -> Interval:
        """One that says nothing and does not hold."""
        return cls(*[math.nan] * 6, holds=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def gain(f_data: ArrayLike, log_z: LogZ) -> Interval:
    """The mean of f(x_i) - log Z: nats by which the tilt beats the backbone, larger is better.

    Where examples were dequantised, the mean over draws makes this the gain in the usual
    variational bound, not in the likelihood of the discrete data.

    Args:
        f_data: [n_examples] or [n_examples, n_dequantisation_draws], f at held-out data.
        log_z: of the same f.

    Raises:
        InputError: a wrong shape, fewer than 2 examples, or a value that is not finite.
    """
    return _interval(_units("f_data", f_data), -1.0, log_z)


def interval_of_nll(nll: ArrayLike, f_data: ArrayLike, log_z: LogZ) -> Interval:
    """The tilted model's mean negative log-likelihood, nats per example, smaller is better.

    Per example it is the backbone's nll - f + log Z. nll and f are paired, example by example,
    so what they share does not widen the interval.

    Args:
        nll: -log q, [n_examples] or [n_examples, n_dequantisation_draws], in data units.
        f_data: f at the same examples, likewise.
        log_z: of the same f.

    Raises:
        InputError: as `gain`, or another number of examples in `nll` than in `f_data`.
    """
    backbone, f = _units("nll", nll), _units("f_data", f_data)
    if len(backbone) != len(f):
        raise InputError(
            f"nll has {len(backbone)} examples and f_data has {len(f)}; both must describe the"
            " same test set in the same order"
        )
    return _interval(backbone - f, 1.0, log_z)


def interval_of_mean(values: ArrayLike) -> Interval:
    """The mean of a number that needs no log Z, such as the backbone's -log q.

    Args:
        values: [n_examples] or [n_examples, n_dequantisation_draws].

    Raises:
        InputError: as `gain`.
    """
    return _interval(_units("values", values), 1.0, CERTAIN)


def _units(name: str, values: ArrayLike) -> Values:
    """One number per example: [n] or [n, draws] -> [n], at least two of them."""
    axes = ("examples", "draws") if np.ndim(values) == 2 else ("examples",)
    units = finite_values(name, values, axes).reshape(np.shape(values)[0], -1).mean(axis=1)
    if len(units) < 2:
        raise InputError(f"{name} has {len(units)} example, at least 2 are needed for an interval")
    return units


def _interval(units: Values, sign: float, log_z: LogZ) -> Interval:
    """The mean of `units` [n] + `sign` log Z."""
    test = of_independent(units)
    half = math.hypot(half_width(test), (log_z.high - log_z.low) / 2.0)
    mean = float(units.mean()) + sign * log_z.mean
    se_test = test.variance**0.5
    return Interval(
        mean=mean,
        low=mean - half,
        high=mean + half,
        standard_error=math.hypot(se_test, log_z.standard_error),
        se_estimator=log_z.standard_error,
        se_test=se_test,
        holds=log_z.holds,
    )
