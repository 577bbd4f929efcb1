"""The picture of an ensemble's flows while they were learned, and what became of all members."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from . import palette
from .figures import Picture, axes_with, label_ends, line
from .numbers import finite, nats, signed_nats
from .run_folder import Run, column

_FLOW = re.compile(r"member (\d{1,3})")
_DASHES = ("-", "--", "-.", ":")


def member_pictures(run: Run) -> list[Picture]:
    """One picture, if flows were learned beside the backbone's transport."""
    found = (str(event.get("phase")) for event in run.events)
    phases = dict.fromkeys(phase for phase in found if _FLOW.fullmatch(phase))
    curves = [(int(phase.split()[1]) + 1, _curve(run, phase)) for phase in phases]
    curves = [(number, xy) for number, xy in curves if xy.size]
    if not curves:
        return []
    whole = [finite(event.get("nll_val")) for event in run.happened("members", "kept")][-1:]

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "step", "nats, lower is better")
        ends = []
        for place, (number, xy) in enumerate(curves):
            dashes = _DASHES[place % len(_DASHES)]
            line(axes, xy, color=palette.BACKBONE, linestyle=dashes)
            ends.append((float(xy[-1, 1]), f"flow {number}", palette.BACKBONE))
        label_ends(axes, ends)

    together = "" if None in whole or not whole else f" All members together have {nats(whole[0])}."
    caption = (
        "Negative log-likelihood of validation rows while each autoregressive flow was learned. It "
        f"starts at its mixture of Gaussians.{together}{_of_tilt(run)}"
    )
    best = min(float(np.min(xy[:, 1])) for _, xy in curves)
    alt = f"Validation curves of {len(curves)} flows against step; lowest value {nats(best)} nats."
    return [Picture("members", "Fitting the members", caption, alt, draw, "beside")]


def _curve(run: Run, phase: str) -> np.ndarray:
    """Steps and validation nats of a flow, from its start on."""
    start = [{**event, "step": 0} for event in run.happened(phase, "began")]
    return column([*start, *run.happened(phase, "progress")], "step", "nll_val")


def _of_tilt(run: Run) -> str:
    """What the linear tilt of the members was worth, in a sentence; nothing of other tilts."""
    kept: list[Mapping[str, Any]] = run.happened("tilt", "kept")
    if not kept or kept[-1].get("learner") not in ("linear", "nce+linear"):
        return ""
    gain, error = (finite(kept[-1].get(name)) for name in ("crossfitted", "error"))
    if gain is None or error is None:
        return ""
    told = f" A tilt that weighs them anew gains {signed_nats(gain)} ± {nats(error)} nats"
    taken = "" if finite(kept[-1].get("gain_val")) else ", which is not worth having: f is 0"
    return f"{told}, cross-fitted on validation rows{taken}."
