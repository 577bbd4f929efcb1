"""Travel between modes, held against limits: chains that are stuck must not pass."""

from typing import Any

import numpy as np

from tiltflow.diagnostics.modes import RARE, Travel, travel
from tiltflow.diagnostics.verdict import Check
from tiltflow.evaluation.labels import Labelled

AGREE, STUCK = 1.05, 1.2  # R-hat of the modes' shares: caution above the first, failed above both
VISITED = 0.9  # of the chains should have seen every mode
SHARES = 0.1  # total variation from the data, as one classifier tells, that a good model may have


def travelling(labelled: Labelled, every: int) -> tuple[dict[str, Any], list[Check]]:
    """The block `modes` and its checks.

    Args:
        labelled: the draws' labels.
        every: transitions from one labelled draw to the next; times are told in transitions.
    """
    found = travel(labelled.labels, len(labelled.names), labelled.in_data)
    block: dict[str, Any] = {
        "labels": labelled.kind,
        "names": list(labelled.names),
        "every": every,
        "classifier_accuracy": labelled.accuracy,
        "in_data": None if labelled.in_data is None else labelled.in_data.tolist(),
        **found.to_dict(),
    }
    block["between"] = [None if x is None else x * every for x in block["between"]]
    block["time"] = found.time * every if np.isfinite(found.time) else None
    checks = [_agreement(found), _visits(found)]
    if labelled.kind == "data" and labelled.in_data is not None:
        off = float(0.5 * np.abs(found.share - labelled.in_data).sum())
        block["from_data"] = off
        checks.append(_shares(off))
    return block, checks


def _agreement(found: Travel) -> Check:
    return Check(
        name="R-hat of mode shares",
        value=found.rhat,
        limit=AGREE,
        ok=found.rhat <= AGREE,
        severity="caution" if found.rhat <= STUCK else "failed",
        means="Chains spend different shares of their time in the modes: they travel between them "
        "too rarely, or not at all.",
        try_="Draw more; add global moves (--kernel mixture) or replica exchange.",
    )


def _visits(found: Travel) -> Check:
    return Check(
        name="share of chains that visited every mode",
        value=found.visited_all,
        limit=VISITED,
        ok=found.visited_all >= VISITED,
        severity="caution",
        means=f"Some chains never saw a mode that holds {RARE:.0%} or more of the draws or data.",
        try_="Draw more; look at the modes' visitors: if no chain finds a mode of the data, the "
        "model does not have it or chains cannot reach it.",
    )


def _shares(off: float) -> Check:
    return Check(
        name="mode shares against the data",
        value=off,
        limit=SHARES,
        ok=off <= SHARES,
        part="tilt",
        severity="caution",
        means="The draws' labels are not distributed as the data's, as one classifier tells both "
        "(total variation).",
        try_="If the chains have converged it is the model: learn for longer.",
    )
