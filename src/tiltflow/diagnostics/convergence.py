"""Rank-normalised split R-hat, bulk and tail effective sizes, autocorrelation.

Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and localization:
an improved R-hat" (arXiv 1903.08008). The formulas are BlackJAX's; here they are given many
quantities in parts, so that memory stays bounded.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import numpy as np
from numpy.typing import ArrayLike

PART = 16  # quantities at a time


def rhat(draws: ArrayLike) -> np.ndarray:
    """Rank-normalised, folded split R-hat of `[chains, draws, ...]`; `[...]`.

    NaN for a quantity that is constant or not finite.
    """
    return _in_parts("rhat", draws)


def ess_bulk(draws: ArrayLike) -> np.ndarray:
    """Effective sample size of the bulk of `[chains, draws, ...]`, all chains together; `[...]`."""
    return _in_parts("ess_bulk", draws)


def ess_tail(draws: ArrayLike) -> np.ndarray:
    """The smaller effective size of the 5% and 95% quantiles of `[chains, draws, ...]`; `[...]`."""
    return _in_parts("ess_tail", draws)


def autocorrelation(draws: ArrayLike, lags: int) -> np.ndarray:
    """Autocorrelation at lags 0 ... `lags` of `[chains, draws]`, pooled over chains.

    Each chain's autocovariance is taken about the mean of all chains, so that chains that sit on
    levels of their own show as correlation that stays.
    """
    x = np.asarray(draws, np.float64)
    x = x - x.mean()
    number = x.shape[1]
    size = 2 ** int(np.ceil(np.log2(2 * number)))
    spectrum = np.abs(np.fft.rfft(x, size, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, size, axis=1)[:, : lags + 1].mean(axis=0)
    covariance = covariance / (number - np.arange(lags + 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / covariance[0]


def _in_parts(name: str, draws: ArrayLike) -> np.ndarray:
    draws = np.asarray(draws, np.float32)
    shape = draws.shape[2:]
    flat = draws.reshape(*draws.shape[:2], -1)
    count = flat.shape[2]
    fine = np.all(np.isfinite(flat), axis=(0, 1)) & (np.ptp(flat, axis=(0, 1)) > 0)
    padded = np.concatenate([flat, np.zeros((*flat.shape[:2], -count % PART), np.float32)], axis=2)
    padded[:, :, : len(fine)][:, :, ~fine] = 0.0
    parts = [
        np.asarray(_compiled(name)(padded[:, :, first : first + PART]), np.float64)
        for first in range(0, padded.shape[2], PART)
    ]
    values = np.concatenate(parts)[:count]
    return np.where(fine, values, np.nan).reshape(shape)


@cache
def _compiled(name: str) -> Callable[[np.ndarray], jax.Array]:
    import blackjax.diagnostics

    return jax.jit(partial(getattr(blackjax.diagnostics, name), chain_axis=0, sample_axis=1))
