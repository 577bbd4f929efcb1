"""What each of two tilts gains: the first over the backbone, the second on top of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.evaluation.chains import SamplingSettings, fresh_chains
from tiltflow.evaluation.likelihood import Scores, score
from tiltflow.learning import Rows
from tiltflow.model.log_normalizer import log_normalizer
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import Interval, LogZ, gain


@dataclass(frozen=True)
class StageGains:
    """Nats of the bound on held-out rows.

    Attributes:
        latent: of the tilt of z over the backbone.
        data: of the tilt of x over that.
    """

    latent: Interval
    data: Interval

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """Mean and interval of each, as plain values for JSON; None where they do not hold."""
        names = ("mean", "low", "high")
        return {
            part: {name: getattr(found, name) if found.holds else None for name in names}
            for part, found in (("latent", self.latent), ("data", self.data))
        }


def gains_by_stage(
    first: TiltedModel,
    rows: Rows,
    scores: Scores,
    log_z: LogZ,
    sampling: SamplingSettings,
    *,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    listen: Callable[..., Any],
) -> StageGains:
    """The gains of both, each from fresh chains of its own model.

    Args:
        first: the model after its first tilt.
        rows: held-out.
        scores: of the whole model on those rows, embedded by the first of the `keys`.
        log_z: of the whole model.
        sampling: of the first model's chains.
        keys: of the embeddings, and of all else.
        listen: called as (phase, event, **fields).
    """
    chain_key, z_key = jr.split(keys[1])
    draws = fresh_chains(first, sampling, chain_key, listen)
    log_z_first = log_normalizer(
        first,
        key=z_key,
        draws=np.asarray(draws.positions),
        exact_draws=sampling.exact_draws,
    )
    before = score(first, rows, keys[0], draws=scores.f.shape[1])
    return StageGains(
        gain(before.f, log_z_first), gain(scores.f - before.f, _over(log_z, log_z_first))
    )


def _over(after: LogZ, before: LogZ) -> LogZ:
    """The difference of two independent log Z."""
    mean = after.mean - before.mean
    half = float(np.hypot(after.high - after.low, before.high - before.low)) / 2
    return replace(
        after,
        mean=mean,
        standard_error=float(np.hypot(after.standard_error, before.standard_error)),
        low=mean - half,
        high=mean + half,
        lower=after.lower - before.upper,
        upper=after.upper - before.lower,
        holds=after.holds and before.holds,
    )
