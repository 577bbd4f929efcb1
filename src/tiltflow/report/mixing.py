"""Pictures of mixing: do the chains forget where they started, and how fast?"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import palette
from .figures import Picture, axes_with, few_ticks, key, mark_level
from .numbers import readable
from .run_folder import Run

RHAT_LIMIT = 1.01
"""Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), arXiv 1903.08008, section 4."""
ENOUGH_DRAWS = 400
"""Effective draws below which R-hat and intervals are themselves unreliable; same paper."""

_LAGS = {
    "autocorrelation_f": ("f(x)", palette.TILTED),
    "autocorrelation_norm": ("|u|²", palette.BACKBONE),
    "autocorrelation_worst": ("worst coordinate", palette.DATA),
}


def mixing_pictures(run: Run) -> list[Picture]:
    """Traces, autocorrelations and the histograms of R-hat and of effective draws."""
    evidence = run.evidence
    pictures = []
    if "trace_f" in evidence:
        pictures.append(_trace_of_f(evidence["trace_f"]))
    if "trace_norm" in evidence:
        dimension = evidence["rhat_latent"].size if "rhat_latent" in evidence else None
        pictures.append(_trace_of_norm(evidence["trace_norm"], dimension))
    if any(name in evidence for name in _LAGS):
        pictures.append(_autocorrelation({k: evidence[k] for k in _LAGS if k in evidence}))
    if "rhat_latent" in evidence:
        pictures.append(_rhat(evidence["rhat_latent"]))
    if "ess_bulk_latent" in evidence:
        pictures.append(_effective_draws(evidence["ess_bulk_latent"]))
    return pictures


def _trace_of_f(traces: NDArray[np.float64]) -> Picture:
    def draw(figure: Figure) -> None:
        _traces(figure, traces, "f(x)", (palette.TILTED, palette.TILTED_DARK))

    caption = (
        "Every chain should wander up and down one common band, without trend or plateau; one "
        "chain is drawn dark. Chains on levels of their own have not mixed."
    )
    return Picture("trace_f", "Trace of f(x)", caption, _trace_alt("f(x)", traces), draw)


def _trace_of_norm(traces: NDArray[np.float64], dimension: int | None) -> Picture:
    def draw(figure: Figure) -> None:
        _traces(figure, traces, "|u|²", (palette.BACKBONE, palette.DATA), dimension)

    caption = (
        "The squared distance of the latent position from the origin. Without a tilt it averages "
        "the latent dimension; where it settles shows how far the tilt leaves the backbone’s "
        "middle."
    )
    return Picture("trace_norm", "Trace of |u|²", caption, _trace_alt("|u|²", traces), draw)


def _traces(
    figure: Figure,
    traces: NDArray[np.float64],
    what: str,
    colours: tuple[str, str],
    dimension: int | None = None,
) -> None:
    """Up to eight chains [chains, draws], one of them singled out; long ones are thinned."""
    axes = axes_with(figure, "draw", what)
    step = -(-traces.shape[1] // 1500)
    draws = np.arange(traces.shape[1])[::step]
    for trace in traces[1:8]:
        axes.plot(draws, trace[::step], color=colours[0], alpha=0.38, linewidth=0.7)
    axes.plot(draws, traces[0, ::step], color=colours[1], linewidth=0.9)
    if dimension is not None:
        mark_level(axes, dimension, f"d = {dimension}")


def _trace_alt(what: str, traces: NDArray[np.float64]) -> str:
    chains, draws = traces.shape
    mean, spread = readable(float(np.nanmean(traces))), readable(float(np.nanstd(traces)))
    return f"{what} over {draws} draws of {chains} chains; mean {mean}, deviation {spread}."


def _autocorrelation(curves: dict[str, NDArray[np.float64]]) -> Picture:
    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "lag, in draws", "correlation")
        axes.axhline(0, color=palette.HAIRLINE, linewidth=0.8)
        for name, curve in curves.items():
            axes.plot(curve, color=_LAGS[name][1])
        key(axes, [_LAGS[name] for name in curves])

    caption = (
        "How long a chain remembers. The sooner a curve reaches zero, the more each draw is "
        "worth; f(x) and the worst coordinate set the pace."
    )
    names = ", ".join(_LAGS[name][0] for name in curves)
    alt = f"Autocorrelation against lag of {names}."
    return Picture("autocorrelation", "Autocorrelation", caption, alt, draw, "third")


def _rhat(values: NDArray[np.float64]) -> Picture:
    coordinates, beyond = values.size, int((~(values <= RHAT_LIMIT)).sum())
    values = values[np.isfinite(values)]

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "R-hat", "coordinates")
        few_ticks(axes.yaxis, 5, whole=True)
        axes.set_ymargin(0.14)
        low, high = min(values.min(), 1.0), max(values.max(), RHAT_LIMIT)
        pad = 0.06 * (high - low)
        edges = np.linspace(low - pad, high + pad, 33)
        for part, colour in (
            (values[values <= RHAT_LIMIT], palette.BACKBONE),
            (values[values > RHAT_LIMIT], palette.ALARM),
        ):
            axes.hist(part, edges.tolist(), color=colour, rwidth=0.86)
        axes.set_xlim(edges[0], edges[-1])
        few_ticks(axes.xaxis, 4)
        mark_level(axes, RHAT_LIMIT, "limit 1.01", vertical=True)

    judged = "none" if beyond == 0 else "all" if beyond == coordinates else str(beyond)
    unknown = coordinates - values.size
    caption = (
        "R-hat compares the chains with one another, one latent coordinate at a time; 1 is "
        f"perfect agreement. Beyond the limit here: {judged} of {coordinates}"
        + (f", {unknown} of them not finite, and not drawn." if unknown else ".")
    )
    alt = (
        f"Histogram of R-hat over {coordinates} latent coordinates; the largest drawn is "
        f"{values.max():.4f}, {judged} beyond the limit of {RHAT_LIMIT}."
    )
    return Picture("rhat", "R-hat by coordinate", caption, alt, draw, "third")


def _effective_draws(values: NDArray[np.float64]) -> Picture:
    values = values[np.isfinite(values)]

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "effective draws", "coordinates")
        few_ticks(axes.yaxis, 5, whole=True)
        axes.set_ymargin(0.14)
        edges = np.linspace(0, 1.06 * max(values.max(), ENOUGH_DRAWS), 33)
        for part, colour in (
            (values[values >= ENOUGH_DRAWS], palette.BACKBONE),
            (values[values < ENOUGH_DRAWS], palette.ALARM),
        ):
            axes.hist(part, edges.tolist(), color=colour, rwidth=0.86)
        axes.set_xlim(0, edges[-1])
        few_ticks(axes.xaxis, 4)
        mark_level(axes, ENOUGH_DRAWS, f"{ENOUGH_DRAWS}", vertical=True)

    caption = (
        "How many independent draws the correlated ones are worth, one latent coordinate at a "
        f"time. Below {ENOUGH_DRAWS}, means and intervals rest on too little."
    )
    alt = (
        f"Histogram of effective draws over {values.size} latent coordinates; the smallest is "
        f"{values.min():.0f}."
    )
    return Picture("effective_draws", "Effective draws", caption, alt, draw, "third")
