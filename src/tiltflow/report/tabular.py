"""Pictures of tables: the distribution of each column, of pairs of columns, and chains' traces."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import palette
from .figures import Picture, axes_with, common_edges, few_ticks, key, outline, without_heights
from .run_folder import Run

MARGINALS = 6
PAIRED = 4
POINTS = 800
"""Dots of each colour in a scatter plot."""

COLOURS = {"data": palette.DATA, "backbone": palette.BACKBONE, "tilted": palette.TILTED}
WORDS = {"data": "data", "backbone": "backbone", "tilted": "tilted"}


def sample_plots(run: Run) -> list[Picture]:
    """Marginal histograms of the first columns and a scatter matrix of the first few."""
    samples = {name: run.evidence[name] for name in COLOURS if name in run.evidence}
    if not samples:
        return []
    names = column_names(run)
    marginals = [_marginal(samples, j, names[j]) for j in range(min(MARGINALS, len(names)))]
    return marginals + ([_scatter_matrix(samples, names[:PAIRED])] if len(names) > 1 else [])


def travelling_chains(run: Run) -> list[Picture]:
    """Traces of the projection on the data's first principal axis, their targets at the side."""
    if "travel" not in run.evidence:
        return []
    travel = run.evidence["travel"]
    direction, what = principal_axis(run)
    traces = np.einsum("ctd,d->ct", travel[:5], direction)
    targets = {k: run.evidence[k] @ direction for k in ("data", "tilted") if k in run.evidence}

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
        left.set(xlabel="moment", ylabel=what)
        for trace in traces[1:]:
            left.plot(trace, color=palette.TILTED, alpha=0.4, linewidth=0.8)
        left.plot(traces[0], color=palette.TILTED_DARK, linewidth=1.0)
        without_heights(right)
        right.set_xticks([])
        right.spines["bottom"].set_visible(False)
        edges = common_edges([traces, *targets.values()], 36)
        for name, values in targets.items():
            look = {"color": COLOURS[name], "orientation": "horizontal"}
            outline(right, values, edges, fill=name == "data", **look, **_weight(name))
        if targets:
            key(right, [(name, COLOURS[name]) for name in targets])

    caption = (
        f"Chains seen along the {what}, with the distribution that they should fill at the "
        "right; one chain is drawn dark. Mixing chains cross the whole range again and again."
    )
    alt = f"Traces of {len(traces)} chains over {traces.shape[1]} moments along the {what}."
    return [Picture("travel", f"{len(traces)} chains over time", caption, alt, draw, "beside")]


def column_names(run: Run) -> list[str]:
    """A name for each column: the run's own, or x1, x2, ..."""
    width = (run.event_shape or (0,))[0]
    given = [name[:40] for name in run.columns[:width]]
    return given + [f"x{j + 1}" for j in range(len(given), width)]


def principal_axis(run: Run) -> tuple[NDArray[np.float64], str]:
    """A direction [dim] to look along, and its name; the first column without any data."""
    width = (run.event_shape or (1,))[0]
    data = run.evidence.get("data", np.empty((0, width)))
    rows = data[np.isfinite(data).all(1)]
    if len(rows) < 2 or width == 1:
        return np.eye(width)[0], "first column"
    _, _, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return axes[0] * np.sign(axes[0][np.abs(axes[0]).argmax()]), "first principal axis"


def _marginal(samples: dict[str, NDArray[np.float64]], j: int, name: str) -> Picture:
    def draw(figure: Figure) -> None:
        axes = axes_with(figure, name)
        edges = common_edges([s[:, j] for s in samples.values()], 40)
        for kind, values in samples.items():
            look = {"color": COLOURS[kind], **_weight(kind)}
            outline(axes, values[:, j], edges, fill=kind == "data", **look)
        key(axes, [(WORDS[kind], COLOURS[kind]) for kind in samples])

    kinds = ", ".join(WORDS[k] for k in samples)
    alt = f"Histograms of column {name}: {kinds}."
    return Picture(f"marginal_{j + 1}", name, "", alt, draw, "third")


def _scatter_matrix(samples: dict[str, NDArray[np.float64]], names: list[str]) -> Picture:
    n = len(names)

    def draw(figure: Figure) -> None:
        edges = [common_edges([s[:, j] for s in samples.values()], 30) for j in range(n)]
        for i in range(n):
            for j in range(n):
                axes = figure.add_subplot(n, n, i * n + j + 1)
                axes.set_xlim(edges[j][0], edges[j][-1])
                axes.grid(False)
                _cell(axes, samples, edges, i, j)
                axes.set_yticks([])
                few_ticks(axes.xaxis, 3)
                axes.tick_params(labelbottom=i == n - 1, bottom=i == n - 1)
                if i == n - 1:
                    axes.set_xlabel(names[j][:18])
                if j == 0:
                    axes.set_ylabel(names[i][:18])

    caption = (
        "Above the diagonal the backbone lies over the data, below it the tilted model does: the "
        "clouds below should cover the grey ones without spilling over."
    )
    alt = f"Scatter matrix of {', '.join(names)}: backbone above, tilted model below the diagonal."
    return Picture("pairs", "Pairs of columns", caption, alt, draw, "beside", (5.8, 5.3))


def _cell(
    axes: Axes,
    samples: dict[str, NDArray[np.float64]],
    edges: list[NDArray[np.float64]],
    i: int,
    j: int,
) -> None:
    """One cell of the scatter matrix: all kinds on the diagonal, data and one other beside it."""
    if i == j:
        for kind, values in samples.items():
            look = {"color": COLOURS[kind], **_weight(kind)}
            outline(axes, values[:, i], edges[i], fill=kind == "data", **look)
        return
    axes.set_ylim(edges[i][0], edges[i][-1])
    for kind in ("data", "tilted" if i > j else "backbone"):
        if kind in samples:
            rows = samples[kind][:POINTS]
            alpha = 0.3 if kind == "data" else 0.55
            axes.scatter(rows[:, j], rows[:, i], s=4, lw=0, color=COLOURS[kind], alpha=alpha)


def _weight(kind: str) -> dict[str, float]:
    """Data as a pale area behind, models as lines before it."""
    return {"alpha": 0.22, "linewidth": 0} if kind == "data" else {"linewidth": 1.6}
