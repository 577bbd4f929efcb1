"""What a figure of the report is, and its one look: thin axes, direct labels, white ground.

A `Picture` carries its words (title, caption, alternative text) together with the function that
draws it. The pieces here are shared by the modules that draw. Figures are made without pyplot, so
nothing global stays behind and nothing has to be closed.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from . import palette

Span = Literal["third", "half", "beside", "full"]
"""A third or half of the page's width, beside its caption, or the full width."""

SIZES: dict[Span, tuple[float, float]] = {
    "third": (3.5, 2.6),
    "half": (4.8, 2.8),
    "beside": (5.4, 3.1),
    "full": (9.6, 3.4),
}
"""Width and height in inches: type then looks alike on the page, and stays legible on a phone."""

DPI = 200
MAX_BYTES = 400_000

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.5,
    "text.color": palette.INK,
    "text.parse_math": False,  # a column may be called "$"
    "axes.edgecolor": palette.HAIRLINE,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": palette.MUTED,
    "axes.labelsize": 9.5,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.xmargin": 0.0,
    "grid.color": palette.GRID,
    "grid.linewidth": 0.7,
    "xtick.color": palette.HAIRLINE,
    "ytick.color": palette.HAIRLINE,
    "xtick.labelcolor": palette.MUTED,
    "ytick.labelcolor": palette.MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Picture:
    """One figure: `name` is its file's stem, `draw` fills an empty matplotlib figure."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Figure], None]
    span: Span = "half"
    size: tuple[float, float] | None = None


def render(picture: Picture, limit: int | None = None) -> bytes:
    """Draw a picture as a PNG of at most `limit` (MAX_BYTES) bytes, as sharp as that allows."""
    limit = MAX_BYTES if limit is None else limit
    with style.context(STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(picture.size or SIZES[picture.span], layout="constrained")
        FigureCanvasAgg(figure)
        picture.draw(figure)
        dpi, png = DPI, _png(figure, DPI)
        while len(png) > limit and dpi > 20:
            dpi = int(0.8 * dpi)
            png = _png(figure, dpi)
    return png


def _png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def axes_with(figure: Figure, x: str, y: str = "") -> Axes:
    """The figure's only axes, labelled; without `y` the heights mean nothing and are not shown."""
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    if y:
        axes.set_ylabel(y)
        few_ticks(axes.yaxis, 5)
    else:
        without_heights(axes)
    return axes


def few_ticks(axis: Axis, count: int, *, whole: bool = False) -> None:
    """At most about `count` round numbers along an axis; whole ones where things are counted."""
    steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
    axis.set_major_locator(
        MaxNLocator(count, steps=steps, integer=whole, min_n_ticks=1 if whole else 3)
    )


def without_heights(axes: Axes) -> None:
    """Take the vertical axis away, where only shapes matter."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def line(axes: Axes, xy: NDArray[np.float64], **look) -> None:
    """A line through points [n, 2]; a lone point, of a run that has just begun, is a dot."""
    axes.plot(*xy.T, **({"marker": "o", "markersize": 4} if len(xy) == 1 else {}) | look)


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at their right ends: (height in data units, text, colour), pushed apart.

    Call it last: it freezes the vertical limits.
    """
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ordered = sorted(
        (label for label in labels if np.isfinite(label[0])), key=lambda label: label[0]
    )
    heights = apart([(y - low) / (high - low) for y, _, _ in ordered], gap=0.085)
    for height, (_, text, colour) in zip(heights, ordered, strict=True):
        axes.text(
            1.015, height, text, color=colour, transform=axes.transAxes, va="center", fontsize=9
        )


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights in [0, 1] moved as little as needed to be `gap` from each other."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else max(height, 0.0))
    ceiling = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def key(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """A line of coloured words (text, colour) above the axes, where labels would lie on lines."""
    handles = [axes.plot([], [], color=colour, linewidth=3)[0] for _, colour in entries]
    axes.legend(
        handles,
        [text for text, _ in entries],
        labelcolor=[colour for _, colour in entries],
        ncols=len(entries),
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        borderaxespad=0.2,
        frameon=False,
        handlelength=0.9,
        handletextpad=0.5,
        columnspacing=1.4,
        fontsize=9.5,
    )


def mark_level(axes: Axes, level: float, text: str, *, vertical: bool = False) -> None:
    """A dashed reference line with its name written beside it."""
    dashes = {"color": palette.INK, "linewidth": 1.0, "linestyle": (0, (4, 3)), "zorder": 5}
    if vertical:
        axes.axvline(level, **dashes)
        low, high = axes.get_xlim()
        right = level - low > 0.6 * (high - low)
        axes.annotate(
            text,
            (level, 1.0),
            xytext=(-4 if right else 4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            color=palette.MUTED,
            fontsize=9,
            path_effects=[Stroke(linewidth=3, foreground=palette.PAPER), Normal()],
        )
    else:
        axes.axhline(level, **dashes)
        label_ends(axes, [(level, text, palette.MUTED)])


def outline(axes: Axes, values: NDArray[np.float64], edges: NDArray[np.float64], **look) -> None:
    """The outline of a histogram, as a density over bins `edges` [bins + 1]."""
    inside = values[np.isfinite(values)]
    heights, _ = np.histogram(inside, edges)
    axes.stairs(heights / max(inside.size, 1) / np.diff(edges), edges, **look)


def common_edges(
    samples: Sequence[NDArray[np.float64]], bins: int, tail: float = 0.5
) -> NDArray[np.float64]:
    """Bins [bins + 1] over all samples' values but for `tail` percent of each one at each end."""
    pooled = [s[np.isfinite(s)] for s in samples]
    ends = [np.percentile(s, [tail, 100 - tail]) for s in pooled if s.size]
    low = min((e[0] for e in ends), default=0.0)
    high = max((e[1] for e in ends), default=1.0)
    pad = 0.04 * (high - low) or 0.5 * max(1.0, abs(low))
    return np.linspace(low - pad, high + pad, bins + 1)
