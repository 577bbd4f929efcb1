"""What `tiltflow data inspect` has seen, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

UNITS = {
    "gaussianise": "each column through its own histogram to a standard normal (gaussianise)",
    "histogram": "each column through a histogram of unequal bins (histogram)",
    "standardise": "each column to mean 0 and deviation 1 (standardise)",
}


def show_data(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the facts, the columns of a table, the advice, and what `tiltflow fit` makes of it."""
    console = console or Console()
    console.print(f"[bold]{told['name']}[/]", highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column()
    for name, words in _facts(told):
        facts.add_row(name, words)
    console.print(facts)
    if "columns" in told:
        console.print(_columns(told))
    if told["advice"]:
        console.print("\n[bold]Good to know[/]")
    for words in told["advice"]:
        _item(console, "•", words)
    fit = told["fit"]
    console.print("\n[bold]tiltflow fit[/]")
    if fit.get("refusal"):
        _item(console, "[red]✗[/]", f"would refuse this: {fit['refusal']}")
    else:
        units = fit["units"]
        _item(console, "[green]✓[/]", f"takes it; units: {UNITS.get(units, units)}")


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    shape = " x ".join(map(str, told["shape"]))
    labels, bad, again = told["labels"], told["not_finite"], told["repeated_rows"]
    levels = f", {told['levels']:,} levels" if told["levels"] else ""
    rows = [
        ("rows", f"{told['rows']:,}" + (f", {told['test_rows']:,} of them for testing"
                                        if told["test_rows"] else "")),
        ("each", f"{shape}: {told['kind']}"),
        ("stored as", f"{told['dtype']}, {_bytes(told['bytes'])}"),
        ("values", f"{told['values']}{levels}, from {_short(told['low'])} to "
                   f"{_short(told['high'])}"),
        ("NaN, infinite", f"in {bad['rows']:,} rows, first {bad['first']}" if bad["rows"]
         else "none"),
        ("constant", f"{told['constant_columns']:,} columns" if told["constant_columns"]
         else "no column"),
        ("repeated rows", f"{again['rows']:,}, at most {again['most']:,} alike" if again["rows"]
         else "none"),
    ]  # fmt: skip
    if labels:
        sizes = f"{labels['smallest']:,} to {labels['largest']:,} rows each"
        rows.append(("labels", f"{labels['classes']} classes, {sizes}"))
    return rows


def _columns(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, title="\nColumns", title_justify="left")
    table.add_column("name", style="cyan", max_width=24, overflow="ellipsis", no_wrap=True)
    for name in ("least", "mean", "most", "deviation", "distinct", "most common"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in told["columns"]:
        table.add_row(
            entry["name"],
            *(_short(entry[name]) for name in ("low", "mean", "high", "deviation")),
            f"{entry['distinct']:,}",
            f"{entry['most_common']:.1%}",
            style="red" if entry["not_finite"] or entry["distinct"] < 2 else None,
        )
    if told["looked_at"] < told["rows"]:
        table.caption = f"distinct and most common: of {told['looked_at']:,} rows, evenly spread"
        table.caption_justify = "left"
    return table


def _item(console: Console, mark: str, words: str) -> None:
    from rich.markup import escape

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(mark, escape(words))
    console.print(table)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _bytes(number: int) -> str:
    from rich.filesize import decimal

    return decimal(number)
