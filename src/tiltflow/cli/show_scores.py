"""What `tiltflow score` has written, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

NAMED = 5


def show_scores(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Print how many rows were scored, what log p means, which rows are outliers, and where."""
    console = console or Console()

    def say(words: str, style: str | None = None) -> None:
        console.print(words, highlight=False, markup=False, style=style, soft_wrap=True)

    log_p, odd, error = told["log_p"], told["outliers"], told["log_z"]["standard_error"]
    rate = told["rows"] / max(told["seconds"], 0.01)
    took = f"in {told['seconds']:.1f} s ({rate:,.0f} a second)"
    say(f"{told['rows']:,} rows of {told['data']} {took}")
    if told["left_out"]:
        names = ", ".join(told["left_out"][:NAMED])
        more = ", ..." if len(told["left_out"]) > NAMED else ""
        say(f"columns that the model does not know are left out: {names}{more}")
    say(f"log p: of the {log_p['of']}")
    if log_p["withheld"]:
        say(f"log p is withheld: {log_p['withheld']}; log q, f and tails are told", "red")
    elif log_p["mean"] is not None:
        say(f"mean log p {log_p['mean']:.3f} nats; log Z shifts all rows by the same +-{error:.3f}")
    if told["held_out"] is not None:
        say(f"tails: against {told['held_out']:,} held-out rows of the run")
    if odd["rows"]:
        say(f"{odd['rows']:,} outliers, log p of -inf", "yellow")
        for reason, first in odd["first"].items():
            say(f"  {reason}: first {first}", "yellow")
    else:
        say("no outliers: each row has a finite density")
    say(f"\nScores in {told['scores']}")
