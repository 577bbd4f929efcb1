"""The figures of a density of the user's own: corner plot, both sides of log Z, modes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from . import palette
from .figures import Picture, axes_with, few_ticks

MOST_COLUMNS = 6
SHOWN_DRAWS = 2_000
MOST_MODES = 12
COLOURS = (palette.BACKBONE, palette.TILTED, palette.BASELINE, palette.DATA, palette.TILTED_DARK)


def pictures(
    told: Mapping[str, Any], columns: Mapping[str, np.ndarray], marks: np.ndarray
) -> list[Picture]:
    """All figures.

    Args:
        told: what `posterior.json` holds.
        columns: draws `[draws]` of each number, by name.
        marks: the mode of each draw, `[draws]`.
    """
    names = list(columns)[:MOST_COLUMNS]
    left_out = len(columns) - len(names)
    side = 1.35 * len(names) + 1.2
    corner = Picture(
        name="corner",
        title="Draws",
        caption=f"{min(SHOWN_DRAWS, len(marks)):,} of {len(marks):,} draws of equal weight, a "
        "colour a mode; on the diagonal the density of each number."
        + (f" {left_out} more numbers are left out." if left_out else ""),
        alt=f"Scatter plots of each pair of {', '.join(names)}.",
        draw=lambda figure: _corner(figure, {name: columns[name] for name in names}, marks),
        span="full",
        size=(max(side, 4.0), max(side, 3.4)),
    )
    sides = Picture(
        name="log_z",
        title="log Z from both sides",
        caption="At each verdict of the run: the estimate with its 95% interval, and bounds that "
        "rest on the draws of the proposal alone (below) and on those of the chains alone (above).",
        alt="log Z and its bounds against evaluations.",
        draw=lambda figure: _sides(figure, told["trail"]),
    )
    modes = Picture(
        name="modes",
        title="Modes",
        caption="Shares of the mass with two standard errors.",
        alt="Shares of the modes.",
        draw=lambda figure: _modes(figure, told["modes"][:MOST_MODES]),
    )
    return [corner, sides, modes]


def _corner(figure: Figure, columns: Mapping[str, np.ndarray], marks: np.ndarray) -> None:
    names, rng = list(columns), np.random.default_rng(0)
    some = rng.permutation(len(marks))[:SHOWN_DRAWS]
    colours = np.array(COLOURS)[np.minimum(marks[some], len(COLOURS) - 1)]
    grid = figure.subplots(len(names), len(names), squeeze=False)
    for i, below in enumerate(names):
        for j, beside in enumerate(names):
            axes = grid[i, j]
            axes.grid(visible=False)
            if j > i:
                axes.set_visible(False)
                continue
            low, high = np.quantile(columns[beside], (0.002, 0.998))
            pad = 0.05 * (high - low) or 1.0
            axes.set_xlim(low - pad, high + pad)
            if i == j:
                edges = np.linspace(low - pad, high + pad, 41)
                axes.hist(columns[beside], edges, density=True, color=palette.BACKBONE, alpha=0.75)
                axes.set_yticks([])
            else:
                axes.scatter(
                    columns[beside][some], columns[below][some],
                    s=3, c=colours, alpha=0.5, linewidths=0,
                )  # fmt: skip
                bottom, top = np.quantile(columns[below], (0.002, 0.998))
                pad = 0.05 * (top - bottom) or 1.0
                axes.set_ylim(bottom - pad, top + pad)
                few_ticks(axes.yaxis, 3)
            few_ticks(axes.xaxis, 3)
            last, first = i == len(names) - 1, j == 0 and i > 0
            axes.tick_params(labelbottom=last, labelleft=first)
            if last:
                axes.set_xlabel(beside)
            if first:
                axes.set_ylabel(below)


def _sides(figure: Figure, trail: list[dict[str, Any]]) -> None:
    axes = axes_with(figure, "evaluations", "log Z, nats")
    at = np.array([moment["evaluations"] for moment in trail], float)

    def of(name: str) -> np.ndarray:
        values = (moment[name] for moment in trail)
        return np.array([math.nan if value is None else value for value in values], float)

    mean = of("mean")
    axes.errorbar(
        at, mean, np.abs(np.stack([mean - of("low"), of("high") - mean])), fmt="o",
        markersize=4, color=palette.TILTED, linewidth=1.4, label="estimate",
    )  # fmt: skip
    for name, marker in (("lower", "^"), ("upper", "v")):
        axes.plot(at, of(name), marker, markersize=5, color=palette.BACKBONE, label=f"{name} bound")
    axes.set_xmargin(0.12)
    axes.set_ymargin(0.15)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    few_ticks(axes.xaxis, 4)
    axes.autoscale()
    axes.legend(frameon=False, fontsize=8.5, labelcolor=palette.MUTED)


def _short(number: float) -> str:
    return f"{number / 1e6:g}M" if abs(number) >= 1e6 else f"{number / 1e3:g}k"


def _modes(figure: Figure, modes: list[dict[str, Any]]) -> None:
    axes = axes_with(figure, "mode", "share of the mass")
    share = np.array([mode["share"] for mode in modes])
    error = 2 * np.array([mode["error"] for mode in modes])
    number = np.arange(1, len(modes) + 1)
    colours = [COLOURS[min(k, len(COLOURS) - 1)] for k in range(len(modes))]
    axes.bar(number, share, color=colours, width=0.6)
    axes.errorbar(number, share, error, fmt="none", ecolor=palette.INK, linewidth=1.2, capsize=3)
    axes.set_xlim(0.3, len(modes) + 0.7)
    axes.set_ylim(0, min(1.08, 1.25 * float((share + error).max())))
    few_ticks(axes.xaxis, 8, whole=True)
