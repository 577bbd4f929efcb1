"""A density of the user's own on a terminal: one of them, or several side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tiltflow.cli.show import COLOURS, show_verdict

if TYPE_CHECKING:
    from tiltflow.report.posterior_comparison import Rival

MOST_MODES = 6


def show_posterior(told: Mapping[str, Any], run: Path) -> None:
    """Print what `posterior.json` holds: log Z, modes, convergence, cost; then the verdict."""
    console, log_z, worst = Console(), told["log_z"], told["worst"]
    title = f"{escape(run.resolve().name)}: posterior.json"
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    table.add_column("", style="cyan", no_wrap=True)
    table.add_column("")
    shares = [f"{m['share']:.3g} ± {m['error']:.2g}" for m in told["modes"]]
    more = f" and {len(shares) - MOST_MODES} more" if len(shares) > MOST_MODES else ""
    for name, words in (
        ("log Z", f"{_log_z(log_z)}, bounds {_bounds(log_z)}"),
        ("modes", f"{len(shares)}: {', '.join(shares[:MOST_MODES])}{more}"),
        ("searched", told["verdict"]["searched"]),
        ("R-hat", f"{_digits(worst['rhat'], 4)} at worst ({worst['rhat_of']})"),
        ("ESS", f"bulk {_whole(worst['ess_bulk'])}, tail {_whole(worst['ess_tail'])} at worst"),
        ("spent", f"{told['seconds']:.1f} s, {told['evaluations']:,} evaluations"),
    ):
        table.add_row(name, escape(words))
    console.print(table, highlight=False)
    show_verdict(told["verdict"], console)
    console.print(f"\nLook at {run / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def show_rivals(rivals: "list[Rival]", note: str) -> None:
    """Print a table of evidences and of log Bayes factors over the first."""
    console = Console()
    table = Table(box=None, title="log Z, nats", title_justify="left", pad_edge=False)
    table.add_column("run", style="cyan", overflow="fold", min_width=8)
    for name in ("log Z", "bounds", "over the best"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for rival in rivals:
        log_z, status = rival.told["log_z"], rival.told["verdict"]["status"]
        over, factor = "", rival.factor
        if factor is not None:
            over = f"{factor.mean:+.3f} ± {(factor.high - factor.low) / 2:.3f}"
        colour = COLOURS.get(status, "red")
        table.add_row(
            escape(str(rival.path)), _log_z(log_z), _bounds(log_z), over, f"[{colour}]{status}[/]"
        )
    console.print(table, highlight=False)
    for rival in rivals:
        if rival.factor is not None and not rival.factor.holds:
            console.print(f"{rival.path}: {rival.factor.words}", highlight=False, markup=False)
    console.print(f"\n{note}", highlight=False, markup=False)


def _log_z(log_z: Mapping[str, Any]) -> str:
    if log_z["low"] is None or log_z["high"] is None:
        return f"{log_z['mean']:.4f}, its error not known"
    return f"{log_z['mean']:.4f} ± {(log_z['high'] - log_z['low']) / 2:.4f}"


def _whole(value: float | None) -> str:
    return _digits(value, 0)


def _bounds(log_z: Mapping[str, Any]) -> str:
    return f"{_digits(log_z['lower'])} to {_digits(log_z['upper'])}"


def _digits(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
