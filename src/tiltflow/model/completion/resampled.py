"""Gaps filled by importance resampling: many values proposed, few chosen by p / proposal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from tiltflow.diagnostics.verdict import FEWEST_ESS
from tiltflow.model.completion.boxed import boxed
from tiltflow.model.completion.rough import Mixture
from tiltflow.model.completion.rows import PART, Seen, log_density
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.pareto import highest_trusted_k, pareto_k

PROPOSED = 1_024  # values of each row, that compete
EVEN = 4  # times as many as there are to be draws
VANISHING = 700.0  # nats below the largest weight


class Resampled(NamedTuple):
    """Draws of each row.

    Attributes:
        w: `[rows, draws, dim]`, columns; of no meaning where k is NaN.
        k: `[rows]`, Pareto k-hat of the weights; NaN where the model has no density.
        ess: `[rows]`, even draws that all of them are worth.
        is_fair: `[rows]`, whether that is enough: chains need not be run.
    """

    w: np.ndarray
    k: np.ndarray
    ess: np.ndarray
    is_fair: Bool[np.ndarray, " rows"]


def resampled(
    model: TiltedModel,
    rough: Mixture,
    seen: Seen,
    missing: Bool[np.ndarray, "rows dim"],
    draws: int,
    rng: np.random.Generator,
) -> Resampled:
    """Draws of what is `missing`, given what is `seen`, all of its cells counted.

    The proposal is the mixture, given what is seen exactly and cut at the ends of cells.
    """
    rows, dim = missing.shape
    number = max(PROPOSED, EVEN * draws)
    w, (k, ess) = np.zeros((rows, draws, dim)), np.full((2, rows), np.nan)
    patterns, which = np.unique(
        np.concatenate([missing, seen.width > 0], axis=1), axis=0, return_inverse=True
    )
    size = max(1, PART // number)  # rows at a time
    for place, pattern in enumerate(patterns[:, :dim]):
        alike = np.flatnonzero(which.ravel() == place)
        for start in range(0, len(alike), size):
            some = alike[start : start + size]
            proposed = np.repeat(seen.low[some, None].astype(np.float64), number, axis=1)
            log_r = np.empty((len(some), number))
            for row, guess in enumerate(boxed(rough, seen.of(some), pattern, rng)):
                noise = rng.standard_normal((number, len(guess.order)))
                values = guess.at(guess.picked(number, rng), noise)
                proposed[row, :, guess.order] = values.T
                log_r[row] = np.logaddexp.reduce(guess.each(values), axis=0)
            log_p = log_density(model, proposed.reshape(-1, dim)).reshape(len(some), number)
            for row, at in enumerate(some):
                weights = np.where(np.isfinite(log_p[row]), log_p[row] - log_r[row], -np.inf)
                if seen.lost[at] or not np.isfinite(weights).any():
                    continue
                shares = np.exp(weights - weights.max())
                ess[at] = shares.sum() ** 2 / np.sum(shares**2)
                k[at] = pareto_k(np.maximum(weights, weights.max() - VANISHING))
                w[at] = proposed[row, rng.choice(number, draws, p=shares / shares.sum())]
    is_fair = (k < highest_trusted_k(number)) & (ess >= max(FEWEST_ESS, draws))
    return Resampled(w, k, ess, is_fair)
