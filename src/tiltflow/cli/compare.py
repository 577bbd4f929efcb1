"""`tiltflow compare RUN RUN ...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite

if TYPE_CHECKING:
    from tiltflow.report.comparison import Comparison, Entry


def compare(
    *runs: Annotated[
        Path,
        Parameter(help="Folders made by `tiltflow fit`, finished or not; or by `posterior`."),
    ],
    out: Annotated[
        Path | None,
        Parameter(help="Write a page, too: an .html file that opens offline."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Hold runs against each other: likelihoods with intervals, verdicts, settings that differ.

    Runs on different data or splits are told apart, and no best is named among them. Of posteriors
    the evidences are compared: log Bayes factors with 95% intervals.
    """
    from tiltflow.cli.show import show_json
    from tiltflow.errors import InputError
    from tiltflow.report.comparison import compare as compared
    from tiltflow.runs.posterior_folder import is_posterior

    if any(is_posterior(run) for run in runs):
        return _posteriors(list(runs), out, json=json)
    if out is not None and out.suffix != ".html":
        raise InputError(f"{out} does not end in .html: the page is written as HTML, name a file")
    if out is not None and out.exists() and not overwrite:
        raise InputError(f"{out} exists: choose another file with --out, or pass --overwrite")
    found = compared(runs)
    if out is not None:
        from tiltflow.report.comparison_page import write_comparison

        write_comparison(found, out)
    if json:
        show_json({**found.to_dict(), "page": None if out is None else str(out)})
    else:
        _show(found, out)
    return 0


def _posteriors(runs: list[Path], out: Path | None, *, json: bool) -> int:
    """Evidences of densities of the user's own."""
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_posterior import show_rivals
    from tiltflow.errors import InputError
    from tiltflow.report.posterior_comparison import NOTE, compare_posteriors

    if out is not None:
        raise InputError("--out does not go with posteriors, which have no page; leave it out")
    rivals = compare_posteriors(runs)
    if json:
        show_json({"runs": [rival.to_dict() for rival in rivals], "note": NOTE})
    else:
        show_rivals(rivals, NOTE)
    return 0


def _show(found: "Comparison", out: Path | None) -> None:
    """Print a table of numbers, one of settings, and what is to be said of them."""
    from rich.console import Console

    console = Console()
    console.print(_numbers(found))
    if found.settings:
        console.print(_settings(found))
    else:
        console.print("No setting differs between these runs.")
    console.print()
    for note in found.notes:
        console.print(note, highlight=False, markup=False)
    if out is not None:
        console.print(f"\nLook at {out}", highlight=False, markup=False, soft_wrap=True)


def _numbers(found: "Comparison") -> Any:
    from rich.markup import escape
    from rich.table import Table

    from tiltflow.report.comparison import UNKNOWN

    apart = len(found.groups) > 1 or UNKNOWN in found.groups
    table = Table(box=None, title="nats per test example", title_justify="left", pad_edge=False)
    table.add_column("run", style="cyan", overflow="fold", min_width=8)
    if apart:
        table.add_column("data", no_wrap=True)
    for name in ("backbone", "tilted", "gain", "R-hat"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for members in found.groups.values():
        for entry in members:
            data = [entry.group] if apart else []
            table.add_row(escape(entry.label), *data, *_cells(entry))
        table.add_section()
    return table


def _cells(entry: "Entry") -> list[str]:
    """Backbone, tilted, gain, R-hat and verdict; intervals and time below."""
    from tiltflow.cli.show import COLOURS
    from tiltflow.report.header import VERDICTS
    from tiltflow.report.numbers import interval, nats, readable, seconds, signed_nats

    low, high = entry.number("gain_nats", "low"), entry.number("gain_nats", "high")
    tilted = interval(entry.number("tilted", "nll_low"), entry.number("tilted", "nll_high"))
    gain = interval(low, high) and f"{signed_nats(low)} to {signed_nats(high)}"
    verdict = VERDICTS.get(entry.status, ("No verdict", ""))[0]
    return [
        nats(entry.number("backbone", "nll_test")),
        _over(nats(entry.number("tilted", "nll_test")), tilted),
        _over(signed_nats(entry.number("gain_nats", "mean")), gain),
        readable(entry.number("mixing", "rhat_max")),
        _over(
            f"[{COLOURS.get(entry.status, 'dim')}]{verdict}[/]",
            seconds(entry.number("seconds", "total")),
        ),
    ]


def _over(value: str, below: str | None) -> str:
    return f"{value}\n[dim]{below}[/]" if below else value


def _settings(found: "Comparison") -> Any:
    from rich.markup import escape
    from rich.table import Table

    from tiltflow.report.numbers import MISSING, literal

    table = Table(box=None, title="\nsettings that differ", title_justify="left", pad_edge=False)
    table.add_column("setting", style="cyan", overflow="fold")
    for entry in found.entries:
        table.add_column(escape(entry.label), justify="right", overflow="fold")
    for name, values in found.settings.items():
        shown = (MISSING if v is None else escape(literal(v)) for v in values)
        table.add_row(escape(name), *shown)
    return table
