"""The picture of drift: mean f of chains against transitions since their start, beside the data."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from . import palette
from .figures import Picture, axes_with, mark_level
from .numbers import finite, readable
from .run_folder import Run


def drift_pictures(run: Run) -> list[Picture]:
    """One picture, if the metrics tell of it."""
    block = run.metric("drift")
    if not isinstance(block, Mapping):
        return []
    columns = [_numbers(block.get(name)) for name in ("transitions", "f", "f_error")]
    level = finite(block.get("f_data"))
    if level is None or len({len(column) for column in columns}) > 1 or len(columns[0]) < 2:
        return []
    transitions, f, error = columns
    if not np.any(f) and level == 0:
        return []  # f is 0 everywhere: nothing drifts
    words = block.get("words")

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "transitions since the start", "mean f(x)")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # powers need mathematics
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.fill_between(transitions, f - 2 * error, f + 2 * error, color=palette.HAIRLINE)
        axes.plot(transitions, f, color=palette.TILTED, marker="o", markersize=3)
        mark_level(axes, level, "training rows")

    caption = (
        "Chains from the backbone’s draws should come to where the data are, and stay there. Those "
        "of a model that was learned with too few transitions go past them."
        + (f" {words}" if isinstance(words, str) else "")
    )
    alt = (
        f"Mean f from {readable(float(f[0]))} after {int(transitions[0])} transitions to "
        f"{readable(float(f[-1]))} after {int(transitions[-1])}; training rows "
        f"{readable(level)}."
    )
    return [Picture("drift", "Drift", caption, alt, draw, "third")]


def _numbers(values: object) -> NDArray[np.float64]:
    """A list of finite numbers as an array; an empty one for anything else."""
    if not isinstance(values, list) or any(finite(value) is None for value in values):
        return np.zeros(0)
    return np.asarray(values, np.float64)
