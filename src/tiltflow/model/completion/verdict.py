"""The verdict on rows that had gaps: how many of them are doubtful, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tiltflow.diagnostics.verdict import DISAGREE, FEWEST_ESS, Check, Severity, conclude

SOME = 0.05  # of the rows, beyond which doubtful ones are no exception


def verdict_on(
    rhat: Float[np.ndarray, " rows"],
    ess: Float[np.ndarray, " rows"],
    empty: Bool[np.ndarray, " rows"],
    divergent: float,
) -> dict[str, Any]:
    """The verdict on rows that had gaps.

    Args:
        rhat: of those that were drawn by chains, NaN of others.
        ess: of each; neither is looked at where `empty`.
        empty: whether the model has no density there.
        divergent: the share of transitions that broke off.
    """
    number = max(int(np.sum(~empty)), 1)
    apart = float(np.sum((rhat > DISAGREE) & ~empty) / number)
    few = float(np.sum(~(ess >= FEWEST_ESS) & ~empty) / number)
    nowhere = float(np.mean(empty)) if len(empty) else 0.0
    return conclude(
        [
            Check(
                name="rows whose chains disagree, share",
                value=apart,
                limit=0.0,
                ok=apart == 0,
                severity=_of_share(apart),
                means=f"R-hat of a missing value is above {DISAGREE} there: what fits the rest of "
                f"the row may lie in places that chains do not travel between.",
                try_="Leave these rows out.",
            ),
            Check(
                name="rows of few independent draws, share",
                value=few,
                limit=0.0,
                ok=few == 0,
                severity=_of_share(few),
                means=f"All that such a row's draws were chosen from is worth fewer than "
                f"{FEWEST_ESS:g} independent ones.",
                try_="Leave these rows out, or take one draw of each.",
            ),
            Check(
                name="divergences, share",
                value=divergent,
                limit=0.001,
                ok=divergent <= 0.001,
                severity="caution" if divergent <= 0.01 else "failed",
                means="Trajectories broke off where the density is too steep or not finite.",
                try_="Look at rows far from those that were learned from.",
            ),
            Check(
                name="rows without a density, share",
                value=nowhere,
                limit=0.0,
                ok=nowhere == 0,
                severity=_of_share(nowhere),
                means="What is there of such a row has probability 0 under the model: its gaps "
                "are left as they are.",
                try_="Look whether these values are mistakes.",
                part="data",
            ),
        ]
    )


def _of_share(share: float) -> Severity:
    return "caution" if share <= SOME else "failed"
