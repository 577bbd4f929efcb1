"""What `tiltflow data inspect` has seen, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

UNITS = {
    "gaussianise": "each column through its own histogram to a standard normal (gaussianise)",
    "histogram": "each column through a histogram of unequal bins (histogram)",
    "tails": "each column through a histogram between power tails (tails)",
    "standardise": "each column to mean 0 and deviation 1 (standardise)",
}


def show_data(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the facts, the columns of a table, the advice, and what `tiltflow fit` makes of it."""
    console = console or Console()
    console.print(f"[bold]{escape(told['name'])}[/]", highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column()
    for name, words in _facts(told):
        facts.add_row(name, escape(words))
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
    rows, labels, bad, again = (
        told[name] for name in ("rows", "labels", "not_finite", "repeated_rows")
    )
    own = f", {told['test_rows']:,} of them for testing" if told["test_rows"] else ""
    levels = f", {told['levels']:,} levels" if told["levels"] else ""
    bad_words = f"in {bad['rows']:,} of {rows:,} rows, first {bad['first']}"
    constant = f"{told['constant_columns']:,} columns"
    found = [
        ("rows", f"{rows:,}{own}"),
        ("each", f"{' x '.join(map(str, told['shape']))}: {told['kind']}"),
        ("stored as", f"{told['dtype']}, {decimal(told['bytes'])}"),
        (
            "values",
            f"{told['values']}{levels}, from {_short(told['low'])} to {_short(told['high'])}",
        ),
        ("NaN, infinite", bad_words if bad["rows"] else "none"),
        ("constant", constant if told["constant_columns"] else "no column"),
        (
            "repeated rows",
            f"{again['rows']:,}, at most {again['most']:,} alike" if again["rows"] else "none",
        ),
    ]
    if labels:
        sizes = f"{labels['smallest']:,} to {labels['largest']:,} rows each"
        found.append(("labels", f"{labels['classes']} classes, {sizes}"))
    return found


def _columns(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, title="\nColumns", title_justify="left")
    table.add_column("name", style="cyan", max_width=24, overflow="fold")
    table.add_column("kind")
    for name in ("least", "mean", "most", "deviation", "distinct", "most common"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in told["columns"]:
        table.add_row(
            escape(entry["name"]),
            entry["kind"],
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
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(mark, escape(words))
    console.print(table)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
