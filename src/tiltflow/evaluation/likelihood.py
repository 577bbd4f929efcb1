"""Held-out likelihood: nats per example for backbone and tilted model, and the gain.

Integers x are dequantised, y = x + noise. The mean of log p(y) over the noise bounds log P(x)
from below (Theis, van den Oord and Bethge 2016, arXiv 1511.01844, eq. 4); the logarithm of the
mean of p(y) over K draws bounds it more tightly (Ho et al. 2019, arXiv 1902.00275, eq. 12 with
uniform noise), and is exact for ever larger K.

The same two are a generator's evidence lower bound and its importance-weighted one: its draws are
embeddings too, with the encoder's density in their weight (`backbones/generator.py`). For a tilt
of z alone the difference of the variational bounds of p and q is E f - log Z exactly, the
expectation over the encoder. `posterior.py` has a tighter bound.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import logsumexp

from tiltflow.backbones import Ensemble
from tiltflow.learning import Rows
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import scored
from tiltflow.normalizer import Interval, LogZ, gain, interval_of_mean, interval_of_nll
from tiltflow.parallel.devices import over_devices
from tiltflow.parallel.keys import keys_of

DRAWS = 20  # dequantisations of each row
BOUNDS = ("variational", "importance")


@dataclass(frozen=True, eq=False)
class Scores:
    """Held-out rows under a model, each with its dequantisation draws, in nats.

    Attributes:
        f: `[rows, draws]`, the tilt.
        log_q: `[rows, draws]`, the backbone's log-density, data units.
    """

    f: np.ndarray
    log_q: np.ndarray

    @property
    def bad(self) -> float:
        """The share of them that is not finite."""
        return float(np.mean(~(np.isfinite(self.log_q) & np.isfinite(self.f))))

    def of_rows(self, bound: str = "variational") -> tuple[np.ndarray, np.ndarray]:
        """Bounds of log q and of log p + log Z of each row, `[rows]`; exact if draws are equal."""
        log_p = self.log_q + self.f
        if bound == "variational":
            return self.log_q.mean(axis=1), log_p.mean(axis=1)
        log_draws = np.log(self.log_q.shape[1])
        return logsumexp(self.log_q, axis=1) - log_draws, logsumexp(log_p, axis=1) - log_draws


class Likelihood(NamedTuple):
    """Nats per example of held-out rows: negative log-likelihoods, and the paired gain."""

    backbone: Interval
    tilted: Interval
    gain: Interval

    @classmethod
    def unknown(cls) -> "Likelihood":
        """Numbers that are not known."""
        return cls(*[Interval.unknown()] * 3)


def likelihood(scores: Scores, log_z: LogZ, bound: str = "variational") -> Likelihood:
    """The intervals; one of `BOUNDS` says what is taken for the log-probability of integers."""
    return of_bounds(*scores.of_rows(bound), log_z)


def of_bounds(log_q: np.ndarray, log_p: np.ndarray, log_z: LogZ) -> Likelihood:
    """The intervals from log q and log p + log Z, or bounds of them, of each row (`[rows]`)."""
    f = log_p - log_q
    return Likelihood(interval_of_mean(-log_q), interval_of_nll(-log_q, f, log_z), gain(f, log_z))


def gain_block(gain: Interval) -> dict[str, float]:
    """A gain as the block `gain_nats` of results; the two reasons to doubt it apart."""
    return {
        "mean": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "se_log_z": gain.se_estimator,
        "se_test": gain.se_test,
    }


def bits_per_dim(nats: float, dim: int) -> float:
    """Nats per example of `dim` numbers as bits per number, the unit that images are told in."""
    return nats / (dim * math.log(2))


def score(model: TiltedModel, rows: Rows, key: PRNGKeyArray, draws: int = DRAWS) -> Scores:
    """f and log q of every row, with `draws` dequantisations and embeddings where they vary.

    One draw of the rows is in memory at a time; of all of them there are only the scores.
    """
    rows = rows.through(model.backbone)
    if isinstance(model.backbone, Ensemble):
        keys = keys_of(key, draws if rows.vary else 1)
        said = [_scored_on_host(model, rows, key) for key in keys]
        found = [np.stack(some) for some in zip(*said, strict=True)]
    else:
        scored = _score(model, rows, rows.keys(key, draws))
        found = [np.asarray(x, np.float64)[:, : len(rows)] for x in scored]
    f, log_q, log_weight = (x.T for x in found)
    return Scores(f=f, log_q=log_q + log_weight)


def _scored_on_host(model: TiltedModel, rows: Rows, key: PRNGKeyArray) -> tuple[np.ndarray, ...]:
    """f, log q of the coordinates, and the log-weights, of one draw of the rows."""
    c, log_weight = (np.asarray(x)[: len(rows)] for x in rows.once(key))
    return (*scored(model, c), log_weight.astype(np.float64))


@over_devices
def _score(
    model: TiltedModel, rows: Rows, keys: PRNGKeyArray
) -> tuple[Float[Array, "draws room"], ...]:
    """f, log q of the coordinates, and the log-weights, for each of the keys."""

    def one(c: Array, log_weight: Array) -> tuple[Array, Array, Array]:
        return model.tilt(c), model.backbone.log_prob_coordinates(c), log_weight

    return jax.lax.map(lambda key: rows.each(one, key), keys)
