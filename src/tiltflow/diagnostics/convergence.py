"""Rank-normalised split R-hat, bulk and tail effective sizes, autocorrelation.

Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and localization:
an improved R-hat" (arXiv 1903.08008). In NumPy, a few quantities at a time: nothing is compiled,
memory stays bounded, and draws may be mapped from a file.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike
from scipy.special import ndtri

VALUES = 4_000_000  # looked at together
FEWEST = 4  # draws of a chain: two in each half


class Convergence(NamedTuple):
    """All three diagnostics of `[chains, draws, ...]`, `[...]` each; NaN as `rhat` says."""

    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray


def convergence(draws: ArrayLike) -> Convergence:
    """R-hat and both effective sizes at once, for less than one after the other."""
    return Convergence(*_each(draws, _convergence))


def worst(draws: ArrayLike) -> tuple[float, float]:
    """The smallest bulk effective size and the largest R-hat of `[chains, draws, ...]`.

    NaN if either is, of any quantity.
    """
    rhat, bulk, _ = _each(draws, _bulk)
    return float(np.min(bulk)), float(np.max(rhat))


def rhat(draws: ArrayLike) -> np.ndarray:
    """Rank-normalised, folded split R-hat of `[chains, draws, ...]`; `[...]`.

    NaN for a quantity that is constant or not finite, and with fewer than 4 draws a chain.
    """
    return _each(draws, lambda split: (_rhat(split, _normalised(split)),))[0]


def ess_bulk(draws: ArrayLike) -> np.ndarray:
    """Effective sample size of the bulk of `[chains, draws, ...]`, all chains together; `[...]`."""
    return _each(draws, lambda split: (_ess(_normalised(split)),))[0]


def ess_tail(draws: ArrayLike) -> np.ndarray:
    """The smaller effective size of the 5% and 95% quantiles of `[chains, draws, ...]`; `[...]`."""
    return _each(draws, lambda split: (_ess_tail(split),))[0]


def ess_mean(draws: ArrayLike) -> np.ndarray:
    """Effective size of the mean of `[chains, draws, ...]`, values as they are; `[...]`."""
    return _each(draws, lambda split: (_ess(split),))[0]


def autocorrelation_time(draws: ArrayLike) -> np.ndarray:
    """Integrated autocorrelation time of `[chains, draws, ...]`: draws worth one; `[...]`.

    1 for independent draws; inf where no chain moves, though chains differ.
    """
    draws = np.asarray(draws)
    with np.errstate(divide="ignore"):
        return draws.shape[0] * draws.shape[1] / ess_mean(draws)


def autocorrelation(draws: ArrayLike, lags: int) -> np.ndarray:
    """Autocorrelation at lags 0 ... `lags` of `[chains, draws]`, pooled over chains.

    Each chain's autocovariance is taken about the mean of all chains, so that chains that sit on
    levels of their own show as correlation that stays.
    """
    x = np.asarray(draws, np.float64)
    x = x - x.mean()
    number = x.shape[1]
    covariance = _mean_autocovariance(x[None])[0, : lags + 1] * number
    covariance = covariance / (number - np.arange(lags + 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / covariance[0]


def _each(
    draws: ArrayLike, diagnose: Callable[[np.ndarray], tuple[np.ndarray, ...]]
) -> list[np.ndarray]:
    """`diagnose` for all quantities, a part of them at a time.

    It gets split chains, `[quantities, 2 * chains, draws // 2]`, each quantity finite and not
    constant, and returns a tuple of `[quantities]`.
    """
    draws = np.asarray(draws)
    chains, number, *shape = draws.shape
    flat = draws.reshape(chains, number, math.prod(shape))
    if number < FEWEST:
        return [np.full(shape, np.nan)] * 3
    half = number // 2
    part = max(1, VALUES // (chains * number))
    results = []
    for first in range(0, flat.shape[2], part):
        x = np.moveaxis(flat[:, :, first : first + part], 2, 0)
        fine = np.all(np.isfinite(x), axis=(1, 2)) & (np.max(x, (1, 2)) > np.min(x, (1, 2)))
        split = np.ascontiguousarray(x[fine, :, : 2 * half]).reshape(-1, 2 * chains, half)
        values = np.full((len(x), 3), np.nan)
        columns = diagnose(split) if len(split) else ()
        for column, result in enumerate(columns):
            values[fine, column] = result
        results.append(values)
    return list(np.concatenate(results).T.reshape(3, *shape))


def _convergence(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    normal = _normalised(x)
    return _rhat(x, normal), _ess(normal), _ess_tail(x)


def _bulk(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    normal = _normalised(x)
    return _rhat(x, normal), _ess(normal)


def _rhat(x: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Section 4.1: the larger of R-hat in the bulk and, folded about the median, in the tails."""
    median = np.median(x.reshape(len(x), -1), axis=1)[:, None, None]
    # One of two values that are equally frequent is as far from the median as the other: NaN.
    return np.fmax(_plain_rhat(normal), _plain_rhat(_normalised(np.abs(x - median))))


def _plain_rhat(x: np.ndarray) -> np.ndarray:
    """Eqs. (1) to (4)."""
    number = x.shape[2]
    within = x.var(axis=2, ddof=1).mean(axis=1)
    between = x.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((number - 1) / number + between / within)


def _normalised(x: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks over all chains, eq. (14); equal values share their mean rank."""
    flat = x.reshape(len(x), -1)
    order = np.argsort(flat, axis=1)
    scores = np.empty(flat.shape)
    table = _scores(flat.shape[1])
    for row, places, values in zip(scores, order, flat, strict=True):
        ordered = values[places]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        ends = np.append(starts[1:], len(ordered))
        row[places] = np.repeat(table[starts + ends - 1], ends - starts)
    return scores.reshape(x.shape)


@lru_cache(maxsize=4)
def _scores(number: int) -> np.ndarray:
    """Normal scores of ranks 1, 1.5, 2, ... `number`."""
    ranks = 1 + 0.5 * np.arange(2 * number - 1)
    return ndtri((ranks - 0.375) / (number + 0.25))


def _ess_tail(x: np.ndarray) -> np.ndarray:
    """Section 4.3: the smaller of the effective sizes of the 5% and 95% quantiles."""
    low, high = np.quantile(x.reshape(len(x), -1), (0.05, 0.95), axis=1)[..., None, None]
    return np.minimum(_ess((x <= low).astype(float)), _ess((x >= high).astype(float)))


def _ess(x: np.ndarray) -> np.ndarray:
    """Eqs. (10) to (13): Geyer's initial monotone sequence, cut where a pair is not positive.

    0 where no chain moves.
    """
    _, chains, number = x.shape
    means = x.mean(axis=2, keepdims=True)
    covariance = _mean_autocovariance(x - means)
    within = covariance[:, 0] * number / (number - 1)
    total = covariance[:, 0] + means[..., 0].var(axis=1, ddof=1)
    still = ~(covariance[:, 0] > 1e-14 * total)
    correlation = 1 - (within[:, None] - covariance) / np.where(still, 1.0, total)[:, None]
    correlation[:, 0] = 1.0
    even, odd = correlation[:, : number - number % 2].reshape(len(x), -1, 2).transpose(2, 0, 1)
    pairs = even + odd
    positive = np.logical_and.accumulate(pairs > 0, axis=1)
    kept = np.minimum.accumulate(pairs, axis=1) * positive
    length = positive.sum(axis=1)
    last = np.take_along_axis(even, np.minimum(length, even.shape[1] - 1)[:, None], 1)[:, 0]
    time = -1 + 2 * kept.sum(axis=1) + np.where(length < even.shape[1], np.maximum(last, 0), 0)
    size = chains * number
    return np.where(still, 0.0, size / np.maximum(time, 1 / np.log10(size)))


def _mean_autocovariance(x: np.ndarray) -> np.ndarray:
    """Of centred chains `[quantities, chains, draws]`, averaged over them: `[quantities, lags]`."""
    number = x.shape[2]
    size = scipy.fft.next_fast_len(2 * number, real=True)
    power = np.mean(np.abs(np.asarray(scipy.fft.rfft(x, size, axis=2))) ** 2, axis=1)
    return np.asarray(scipy.fft.irfft(power, size, axis=1))[:, :number] / number
