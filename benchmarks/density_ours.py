"""tiltflow in the shoot-out: `tiltflow.fit` with a budget, and its backbone alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax.random as jr
import numpy as np
from density_sets import DRAWS, KEY, Shared

import tiltflow
from tiltflow.evaluation.likelihood import score
from tiltflow.fitting.settings import suited_to

LEAST = 30.0  # seconds, the smallest budget that there is


@dataclass(frozen=True, eq=False)
class Scored:
    """A fitted model on the test rows.

    Attributes:
        nll: `[rows]`, nats, mean over draws of the noise.
        words: what was chosen.
        more: numbers to keep beside it.
        others: nll of other models that it has, by name.
    """

    nll: np.ndarray
    words: str
    more: dict[str, Any] = field(default_factory=dict)
    others: dict[str, np.ndarray] = field(default_factory=dict)


def score_ours(shared: Shared, left: Callable[[], float]) -> Scored:
    """The product as it is, with a budget; nothing is chosen here."""
    settings = suited_to(None, len(shared.parts.train), shared.data.shape)
    is_planned = settings.model.backbone == "ensemble"
    if is_planned:
        settings = replace(settings, members=replace(settings.members, budget=max(left(), LEAST)))
    result = tiltflow.fit(shared.data, settings, parts=shared.parts)
    metrics = result.metrics
    # The noise of the test rows is that which the peers are scored with.
    rows = replace(shared.test_rows, units=result.model.model.backbone.units)
    scores = score(result.model.model, rows, jr.key(KEY), DRAWS)
    log_q, log_p = scores.of_rows()
    log_z = result.model.log_z
    more = {
        "verdict": metrics["verdict"]["status"],
        "gain": metrics["gain_nats"]["mean"],
        "gain_val": metrics["gain_nats"]["val_by_witnesses"],
        "log_z_error": log_z.standard_error,
        "by_part": metrics["seconds"],
    }
    return Scored(log_z.mean - log_p, metrics["verdict"]["text"], more, {"backbone": -log_q})
