"""Outliers on a terminal: the scores side by side, then the strangest rows and why."""

from math import prod

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tiltflow.evaluation.outliers.judge import MEASURES, Estimate
from tiltflow.evaluation.outliers.of_run import Outliers

HEADS = {"auroc": "AUROC", "average_precision": "AP", "fpr95": "FPR95"}


def show_outliers(
    found: Outliers,
    name: str,
    columns: tuple[str, ...] | None,
    shape: tuple[int, ...],
    console: Console | None = None,
) -> None:
    """Print what `outliers_of` has found in the data called `name`.

    Args:
        found: it.
        name: of the data.
        columns: their names, if they have any.
        shape: of one row; a column of an image is a pixel, told by its indices.
        console: where to; by default the terminal.
    """
    console = console or Console()
    known = "" if found.labels is None else f", {int(found.labels.sum()):,} labelled as outliers"
    console.print(f"{len(found.p_values):,} rows of {escape(name)}{known}\n", highlight=False)
    console.print(_scores(found))
    if found.constant:
        words = "column is" if len(found.constant) == 1 else "columns are"
        console.print(
            f"\n{len(found.constant):,} {words} constant in training and not looked at by the "
            f"first score and the baselines.",
            highlight=False,
        )
    if found.strangest:
        console.print("\nthe strangest rows, and the columns that add most to their score")
        console.print(_strangest(found, columns, shape))


def _scores(found: Outliers) -> Table:
    """A row a score: how many it flags, how far it agrees, what it finds."""
    heads = [f"flagged at {found.rate:g}", "agreement"]
    heads += [HEADS[key] for key in MEASURES if found.judged]
    table = Table(box=None)
    table.add_column("score", no_wrap=True)
    for head in [*heads, *(["first ahead in AUROC"] if found.judged else [])]:
        table.add_column(head, justify="right", no_wrap=True)
    for name in found.scores:
        cells = [f"{found.flagged[name]:.1%}", f"{found.agreement[name]:.2f}"]
        if found.judged:
            one = found.judged[name]
            cells += [_interval(getattr(one, key)) for key in MEASURES]
            cells.append("" if one.behind is None else _interval(one.behind["auroc"], "+.3f"))
        table.add_row(escape(name), *cells)
    return table


def _strangest(found: Outliers, columns: tuple[str, ...] | None, shape: tuple[int, ...]) -> Table:
    table = Table(box=None)
    for head in ("row", "score", "p"):
        table.add_column(head, justify="right", no_wrap=True)
    if found.labels is not None:
        table.add_column("outlier", no_wrap=True)
    table.add_column("because of column = value (adds)")
    for one in found.strangest:
        reasons = ", ".join(
            f"{_column(j, columns, shape)} = {value:.4g} ({added:+.1f})"
            for j, value, added in zip(one.columns, one.values, one.added, strict=True)
        )
        known = [] if found.labels is None else ["yes" if found.labels[one.row] else "no"]
        table.add_row(
            str(one.row), f"{one.score:.2f}", f"{one.p_value:.2g}", *known, escape(reasons)
        )
    return table


def _column(j: int, columns: tuple[str, ...] | None, shape: tuple[int, ...]) -> str:
    """The name of a column, or its number, or of an image the indices of a pixel."""
    if columns is not None and len(columns) == prod(shape):
        return columns[j]
    if len(shape) == 1:
        return f"column {j}"
    return f"pixel {tuple(int(i) for i in np.unravel_index(j, shape))}"


def _interval(one: Estimate, form: str = ".3f") -> str:
    return f"{one.value:{form}} ({one.low:{form}} to {one.high:{form}})"
