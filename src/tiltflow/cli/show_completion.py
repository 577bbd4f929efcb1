"""What `tiltflow complete` has written, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from tiltflow.cli.show import show_verdict

NAMED = 8


def show_completion(told: Mapping[str, Any], console: Console | None = None) -> None:
    """Print how many gaps were filled, how far to trust them, and which rows are doubtful."""
    console = console or Console()

    def say(words: str, style: str | None = None) -> None:
        console.print(words, highlight=False, markup=False, style=style, soft_wrap=True)

    say(
        f"{told['missing']:,} values in {told['rows_with_gaps']:,} of {told['rows']:,} rows of "
        f"{told['data']}, {told['draws']:,} draws of each row, in {told['seconds']:.1f} s"
    )
    if told["left_out"]:
        names = ", ".join(told["left_out"][:NAMED])
        more = ", ..." if len(told["left_out"]) > NAMED else ""
        say(f"columns that the model does not know are left out: {names}{more}")
    if doubtful := told["doubtful"]:
        rows = ", ".join(map(str, doubtful[:NAMED])) + (", ..." if len(doubtful) > NAMED else "")
        say(f"doubtful rows: {rows}", "yellow")
    show_verdict(told["verdict"], console)
    if told["run_failed"]:
        say("the verdict on the run itself is failed: what it draws is not to be used", "red")
    say(f"\nCompleted rows in {told['completed']}")
