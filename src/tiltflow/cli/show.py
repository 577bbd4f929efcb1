"""Metrics on a terminal: a table and a verdict, or one JSON object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tiltflow.runs.encode import to_json

COLOURS = {"ok": "green", "draw more": "cyan", "caution": "yellow", "failed": "red"}


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, in ASCII, whatever the encoding of the terminal."""
    print(to_json(value, indent=2, ascii=True))


def show_metrics(metrics: Mapping[str, Any], run: Path, *, json: bool) -> None:
    """Print every number of `metrics.json` by its key, then the verdict."""
    if json:
        show_json({**metrics, "run": str(run)})
        return
    console = Console()
    table = Table(title=f"{escape(run.name)}: metrics.json", title_justify="left", box=None)
    table.add_column("key", style="cyan", no_wrap=True)
    table.add_column("value", justify="right")
    previous = ""
    for key, value in flat(metrics):
        if key.startswith("verdict."):
            continue
        block = key.split(".")[0]
        if previous and block != previous:
            table.add_section()
        previous = block
        table.add_row(escape(key), escape(shown(value)))
    console.print(table)
    show_verdict(metrics.get("verdict") or {}, console)
    for block in (metrics.get("simple_models") or {}).values():
        words = "ahead of" if block["ahead"] >= 0 else "behind"
        told = f"  {words} {block['name']} by {abs(block['ahead']):.2f} nats a row"
        console.print(told, highlight=False, markup=False)
    console.print(f"\nLook at {run / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def show_verdict(verdict: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the verdict in words, and each failing check with what to try."""
    console = console or Console()
    status = verdict.get("status", "failed")
    text = escape(verdict.get("text", "No verdict."))
    console.print(f"\n[{COLOURS.get(status, 'red')}]{text}[/]")
    if len(parts := verdict.get("parts") or {}) > 1:
        told = (f"{part} [{COLOURS.get(found, 'red')}]{found}[/]" for part, found in parts.items())
        console.print(f"  {', '.join(told)}", highlight=False)
    for check in verdict.get("checks", []):
        if not check["ok"]:
            words = f"  {check['name']}: {check['means']} {check['try']}"
            console.print(words, highlight=False, markup=False)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested keys joined with dots, in order."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows.extend(flat(value, f"{prefix}{key}."))
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def shown(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool) or not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def show_likelihood(found: Mapping[str, Any]) -> None:
    """Print a table of likelihoods with their intervals, log Z with its bounds, the verdict."""
    console = Console()
    if "backbone" in found:
        data, dim = found["data"], found["data"]["dim"]
        bound = f", {found['bound']} bound" if found["bound"] else ""
        table = Table(
            "nats per example", "mean", "95% interval", "± log Z", "± test set", "bits/dim",
            title=f"{data['rows']:,} rows of {escape(data['name'])}, {dim} dimensions{bound}",
            title_justify="left", box=None,
        )  # fmt: skip
        for name, key in (("backbone", "backbone"), ("tilted model", "tilted")):
            block = found[key]
            table.add_row(name, *_interval(block, "nll"), shown(block["bits_per_dim"]))
        table.add_row("gain", *_interval(found["gain_nats"], "mean"), "")
        console.print(table)
        log_z = found["log_z"]
        console.print(
            f"\nlog Z  {_pm(log_z['mean'], log_z['standard_error'])}, "
            f"between {_number(log_z['lower'])} and {_number(log_z['upper'])}"
            f" ({log_z.get('method', 'not known')})",
            highlight=False,
        )
    show_verdict(found["verdict"], console)
    if "seconds" in found:
        console.print(f"\n{found['seconds']:.0f} s", highlight=False)


def _interval(block: Mapping[str, Any], mean: str) -> tuple[str, str, str, str]:
    return (
        _number(block[mean]),
        f"{_number(block['low'])} to {_number(block['high'])}",
        _number(block["se_log_z"], 3),
        _number(block["se_test"], 3),
    )


def _pm(mean: float | None, error: float | None) -> str:
    return f"{_number(mean, 3)} ± {_number(error, 3)}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
