"""Chains that go on until there are enough draws, or it is plain that more would not help.

R-hat less 1 falls about as the number of draws grows: chains that are far from agreement after the
first draws do not come to it with a few times as many.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr

from tiltflow.diagnostics.verdict import DISAGREE, LEAST_ESS, MOST_RHAT
from tiltflow.evaluation.chains import STAGE, SamplingSettings, fresh_chains, more_chains
from tiltflow.evaluation.mixing import Mixing, mixing
from tiltflow.learning.keeping import Keeper
from tiltflow.mcmc.draws import Draws
from tiltflow.model.tilted import TiltedModel


def enough_chains(
    model: TiltedModel,
    settings: SamplingSettings,
    key: jax.Array,
    listen: Callable[..., Any],
    *,
    step_size: float = 0.1,
    keeper: Keeper | None = None,
    stage: str = STAGE,
) -> tuple[Draws, Mixing]:
    """Chains started afresh, doubled while they are too few; and how they have mixed.

    Args:
        model: to sample.
        settings: how many at first, and how many times as many `at_most`.
        key: random key.
        listen: called as (phase, event, **fields) while it goes on.
        step_size: that warm-up starts with.
        keeper: of where they are, as the stage `stage` and further ones of its name.

    Raises:
        Interrupted: the keeper was asked to stop.
    """
    draws = fresh_chains(
        model, settings, key, listen, step_size=step_size, keeper=keeper, stage=stage
    )
    mixed, times = mixing(draws, model), 1
    while wants_more(mixed) and 2 * times <= settings.at_most:
        draws = more_chains(
            model, settings, jr.fold_in(key, times), draws, listen, keeper=keeper,
            stage=f"{stage} {2 * times}",
        )  # fmt: skip
        mixed, times = mixing(draws, model), 2 * times
    return draws, mixed


def wants_more(mixed: Mixing) -> bool:
    """Whether chains have not converged, or are too few, and more draws may mend it."""
    rhat, sizes = float(mixed.rhat.max()), [mixed.ess_bulk.min(), mixed.ess_tail.min()]
    return rhat <= DISAGREE and not (rhat <= MOST_RHAT and min(sizes) >= LEAST_ESS)
