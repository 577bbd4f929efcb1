"""The picture of scores of outliers: how they are distributed, and where labels are, apart."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tiltflow.evaluation.outliers.of_run import SCORE, Outliers
from tiltflow.report import palette
from tiltflow.report.figures import (
    Picture,
    common_edges,
    few_ticks,
    key,
    mark_level,
    outline,
    render,
    without_heights,
)
from tiltflow.runs import atomic

KINDS = (("ordinary rows", palette.DATA), ("outliers", palette.ALARM))
ACROSS = 3  # panels
PANEL = (3.3, 2.1)  # inches
BINS = 40
REACH = 4.0  # distances between the quartiles that are shown


def scores_picture(found: Outliers) -> Picture:
    """A panel a score; heights are densities within a kind, so that few outliers are seen too."""
    names = list(found.scores)
    down = -(-len(names) // ACROSS)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(down, ACROSS, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            score = found.scores[name]
            kinds = [score] if found.labels is None else [score[~found.labels], score[found.labels]]
            edges = common_edges([_within_reach(score)], BINS)
            shown = [np.clip(values, edges[0], edges[-1]) for values in kinds]
            for values, (_, colour) in zip(shown, KINDS, strict=False):
                outline(axes, values, edges, fill=True, color=colour, alpha=0.18, linewidth=0)
                outline(axes, values, edges, color=colour, linewidth=1.5)
            without_heights(axes)
            few_ticks(axes.xaxis, 4)
            axes.set_xlabel(_label(found, name))
            if name == SCORE:
                flagged = score[found.p_values <= found.rate]
                if len(flagged):
                    mark_level(axes, float(flagged.min()), f"p = {found.rate:g}", vertical=True)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        if found.labels is not None:
            key(panels[0], KINDS)

    return Picture(
        name="outliers",
        title="Scores of outliers",
        caption="Each kind of rows by its own density; stranger to the right. What is far out "
        "is put at the edge.",
        alt=f"Histograms of {len(names)} scores: {', '.join(names)}.",
        draw=draw,
        span="full",
        size=(PANEL[0] * ACROSS, PANEL[1] * down + 0.3),
    )


def write_scores(path: Path, found: Outliers) -> None:
    """Write the picture as a PNG; raises InputError if the disk refuses."""
    atomic.write_bytes(path, render(scores_picture(found)))


def _within_reach(score: np.ndarray) -> np.ndarray:
    """Scores with what is far out, by the quartiles, brought in: else the rest is one bar."""
    low, high = np.percentile(score, [25, 75])
    return np.clip(score, low - REACH * (high - low), high + REACH * (high - low))


def _label(found: Outliers, name: str) -> str:
    if not found.judged:
        return name
    return f"{name}: AUROC {found.judged[name].auroc.value:.3f}"
