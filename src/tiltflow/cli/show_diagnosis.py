"""A diagnosis on a terminal: every check, how chains travel, and the verdict in words."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tiltflow.cli.show import COLOURS, show_verdict, shown

MATRIX = 12  # modes whose transition matrix fits on 80 columns


def show_diagnosis(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `evaluation.diagnose` returns."""
    console = console or Console()
    if "chains" in found:
        chains = found["chains"]
        origin = "fresh chains" if chains["from"] == "fresh" else chains["from"]
        console.print(
            f"{chains['chains']} chains of {chains['draws']:,} draws: {origin}, "
            f"kernel {chains['kernel'] or 'not recorded'}",
            highlight=False,
        )
    checks = found["verdict"]["checks"]
    if checks:
        console.print(_checks(checks))
    if "times" in found:
        console.print(_times(found["times"]), highlight=False)
        _show_modes(found["modes"], console)
        if any(key in found["coverage"] for key in _WITNESSES):
            console.print("\nLatent chains against")
            console.print(_coverage(found["coverage"]))
    for note in found.get("notes", ()):
        console.print(note, highlight=False)
    show_verdict(found["verdict"], console)
    if "seconds" in found:
        console.print(f"\n{found['seconds']:.0f} s", highlight=False)


def _checks(checks: list[dict[str, Any]]) -> Table:
    table = Table(box=None, title_justify="left")
    table.add_column("check", overflow="fold")
    for name in ("value", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for check in checks:
        status = "ok" if check["ok"] else check["severity"]
        table.add_row(
            check["name"],
            shown(check["value"]),
            shown(check["limit"]),
            f"[{COLOURS[status]}]{status}[/]",
        )
    return table


def _times(times: Mapping[str, Any]) -> str:
    return (
        f"\nAutocorrelation times in transitions: f {shown(times['f'])}, "
        f"|u|^2 {shown(times['norm'])}, {times['worst_of']} (the worst coordinate) "
        f"{shown(times['worst'])}"
    )


def _show_modes(modes: Mapping[str, Any], console: Console) -> None:
    """Modes one a row; the transition matrix beside them if there is room."""
    title = "labels of the data" if modes["labels"] == "data" else "clusters of k-means"
    every = "" if modes["every"] == 1 else f", every {modes['every']} transitions"
    accuracy = modes["classifier_accuracy"]
    right = "" if accuracy is None else f"; right on {accuracy:.1%} of held-out rows"
    names = [name.removeprefix("cluster ") for name in modes["names"]]
    table = Table(box=None)
    for head in ("mode", "draws", "data", "seen", "every"):
        table.add_column(head, justify="right", no_wrap=True)
    with_matrix = len(names) <= MATRIX
    for name in names if with_matrix else ():
        table.add_column(escape(name), justify="right", no_wrap=True, style="dim")
    in_data = modes["in_data"] or [None] * len(names)
    for i, name in enumerate(names):
        row = modes["transitions"][i]
        table.add_row(
            escape(name),
            _percent(modes["share"][i]),
            _percent(in_data[i]),
            _percent(modes["visitors"][i]),
            _count(modes["between"][i]),
            *([_hundredth(x) for x in row] if with_matrix else ()),
        )
    console.print(f"\nModes by {title}{every}{right}", highlight=False)
    console.print(table)
    console.print(_KEY + (_MATRIX_KEY if with_matrix else ""), highlight=False)
    console.print(
        f"Chains that visited every mode: {_percent(modes['visited_all'])}. "
        f"Chains {modes['pair'][0]} and {modes['pair'][1]} differ most: "
        f"{modes['apart']:.2f} in total variation.",
        highlight=False,
    )


_KEY = "seen: by so many chains; every: mean transitions from one visit to the next"
_MATRIX_KEY = ";\nright: the chance in % that the next draw is in that mode"
_WITNESSES = {"data_space": "data-space chains", "held_out": "held-out data"}


def _coverage(coverage: Mapping[str, Any]) -> Table:
    """What the latent chains were compared with, and where they differ most."""
    table = Table(box=None)
    for head in ("", "compared", "worst", "z", "limit", "gap in sd"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for key, name in _WITNESSES.items():
        if block := coverage.get(key):
            table.add_row(
                name,
                _percent(block["compared"]),
                block["worst"] or "-",
                *(shown(block[k]) for k in ("largest_z", "limit_z", "gap_of_worst")),
            )
    return table


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _hundredth(value: float | None) -> str:
    """A chance in per cent, without the sign: columns are narrow."""
    return "-" if value is None else "" if value < 0.005 else f"{100 * value:.0f}"
