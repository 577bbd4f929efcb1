"""Sample quality on a terminal: the floor, the backbone and the tilted model side by side."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tiltflow.cli.show import show_verdict

SETS = ("floor", "backbone", "tilted")
FOUR = ("precision", "recall", "density", "coverage")


def show_quality(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print `ModelQuality.to_dict`, with the names of the data under `data`."""
    console = console or Console()
    if "tilted" in found:
        data = found["data"]
        console.print(
            f"{found['rows']:,} samples against {found['reference_rows']:,} {data['reference']} "
            f"of {data['name']}, on {found['features']} features.\n"
            f"The floor: {data['floor']} in the samples' place.\n",
            highlight=False,
            markup=False,
        )
        console.print(_numbers(found))
        console.print("\nFrechet distance by rows of each set: fewer rows, larger distance")
        console.print(_by_size(found))
        if found["tilted"]["classes"] is not None:
            console.print("\nShares of classes, as the classifier tells, in %")
            console.print(_classes(found))
    show_verdict(found["verdict"], console)
    if "seconds" in found:
        console.print(f"\n{found['seconds']:.0f} s", highlight=False)


def _numbers(found: Mapping[str, Any]) -> Table:
    table = _table("mean ± standard error", *SETS)
    table.add_row("Frechet distance", *(_pm(found[s]["frechet"], 3) for s in SETS))
    table.add_row("kernel distance", *(_pm(found[s]["kernel"], 3) for s in SETS))
    for name in FOUR:
        table.add_row(name, *(_pm(found[s]["neighbours"][name]) for s in SETS))
    return table


def _by_size(found: Mapping[str, Any]) -> Table:
    sizes = [f"{row['rows']:,}" for row in found["tilted"]["frechet"]["by_size"]]
    table = _table("", *sizes, "infinite")
    for name in SETS:
        block = found[name]["frechet"]
        values = [row["value"] for row in block["by_size"]]
        table.add_row(name, *(f"{value:.2f}" for value in (*values, block["extrapolated"])))
    return table


def _classes(found: Mapping[str, Any]) -> Table:
    table = _table("", "data", *SETS)
    blocks = [found[name]["classes"] for name in SETS]
    columns = [blocks[0]["in_reference"], *(block["shares"] for block in blocks)]
    for i, name in enumerate(blocks[0]["names"]):
        table.add_row(name, *(f"{100 * column[i]:.1f}" for column in columns))
    table.add_section()
    for label, pick in _ENDS.items():
        table.add_row(label, *(f"{100 * pick(column):.1f}" for column in columns))
    return table


_ENDS: dict[str, Callable[[Any], float]] = {"smallest": min, "largest": max}


def _table(*heads: str) -> Table:
    table = Table(box=None)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left", no_wrap=True)
    return table


def _pm(block: Mapping[str, Any], digits: int = 3) -> str:
    return f"{block['value']:.{digits}f} ± {block['standard_error']:.{digits}f}"
