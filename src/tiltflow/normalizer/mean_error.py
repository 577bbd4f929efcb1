"""How well a mean is known: from independent values, and from correlated chains.

Every estimate comes with degrees of freedom: a variance learned from few or from heavy-tailed
values is itself uncertain, and Student's t passes that on to the interval.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from tiltflow.normalizer.values import Values

MANY_CHAINS = 16
"""From here on the scatter of the chains' own means is trusted to be the error."""


class MeanError(NamedTuple):
    """The error of a sample mean."""

    variance: float  # of the mean, in the values' unit squared
    freedom: float  # degrees of freedom of that variance
    size: float  # independent values that would know the mean as well; at most the number given


def of_independent(values: Values) -> MeanError:
    """The error of the mean of independent `values` [n].

    The degrees of freedom are 2 n / (kurtosis - 1), at which a scaled chi-square has the
    variance of the sample variance (Satterthwaite 1946), and at most n - 1.
    """
    n = len(values)
    deviations = values - values.mean()
    second = float(np.mean(deviations**2))
    if _is_constant(second, values):
        return MeanError(0.0, n - 1.0, float(n))
    kurtosis = float(np.mean(deviations**4)) / second**2
    freedom = min(n - 1.0, 2.0 * n / max(kurtosis - 1.0, 1e-12))
    return MeanError(second / (n - 1), freedom, float(n))


def of_chains(values: Values) -> MeanError:
    """The error of the mean of `values` [chains, draws], correlated along draws.

    With 16 chains or more the chains' means are so many independent values: no model of the
    correlation, and a chain may hold a single draw. With fewer, the autocorrelation is summed
    over split chains by Geyer's initial monotone sequence, with the between-chain variance in
    it (Vehtari et al. 2021, equations 10 to 13), so that chains that disagree count as few.
    """
    chains, draws = values.shape
    if chains < MANY_CHAINS and draws >= 4:
        return _of_few_chains(values)
    found = of_independent(values.mean(axis=1))
    if _is_constant(found.variance, values):
        return MeanError(0.0, chains - 1.0, float(values.size))
    size = float(np.var(values)) / found.variance
    return found._replace(size=min(size, float(values.size)))


def half_width(*errors: MeanError) -> float:
    """Half the 95% interval of a sum of independent estimates: t(freedom) times its error.

    The joint degrees of freedom are those of Welch and Satterthwaite.
    """
    variance = sum(error.variance for error in errors)
    if variance == 0.0:
        return 0.0
    spread = sum(error.variance**2 / error.freedom for error in errors)
    return float(stdtrit(max(variance**2 / spread, 1.0), 0.975)) * variance**0.5


def _of_few_chains(values: Values) -> MeanError:
    """`of_chains` by autocorrelation, draws >= 4."""
    half = values.shape[1] // 2
    split = np.concatenate([values[:, :half], values[:, -half:]])
    covariance = _autocovariance(split).mean(axis=0) * half / (half - 1)
    within = covariance[0]
    between = float(np.var(split.mean(axis=1), ddof=1))
    total = within * (half - 1) / half + between
    if _is_constant(float(total), values):
        return MeanError(0.0, split.size - 1.0, float(values.size))
    correlation = 1.0 - (within - covariance) / total
    correlation[0] = 1.0
    pairs = correlation[: half - half % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0.0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    time = max(2.0 * float(pairs.sum()) - 1.0, 1.0 / np.log10(max(split.size, 10)))
    size = split.size / time
    # A lag window a few autocorrelation times wide leaves size/4 free numbers, about.
    return MeanError(float(total) / size, max(size / 4.0, 1.0), min(size, float(values.size)))


def _autocovariance(values: Values) -> Values:
    """Biased autocovariances of each row of `values` [chains, draws] at lags 0 .. draws - 1."""
    draws = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * draws, axis=1)
    return np.fft.irfft(np.abs(spectrum) ** 2, n=2 * draws, axis=1)[:, :draws] / draws


def _is_constant(variance: float, values: Values) -> bool:
    """Whether `variance` is no more than rounding in numbers the size of `values`."""
    return variance <= (1e-14 * float(np.abs(values).max())) ** 2
