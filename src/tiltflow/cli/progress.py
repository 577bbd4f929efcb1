"""A progress bar a phase on standard error, with what matters in that phase and the time left."""

import math
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

TITLES = {
    "backbone": "Backbone",
    "members": "Members",
    "mixture": "Mixture",
    "tilt": "Tilt",
    "data_tilt": "Data tilt",
    "pilot": "Pilot",
    "sampling": "Chains",
    "reference": "Reference",
    "ladder": "log Z",
    "quality": "Quality",
    "simple": "Simple",
    "copies": "Copies",
    "interpolation": "Between",
    "scores": "Scores",
    "completes": "Completed",
    "report": "Report",
}


class Progress:
    """Shows events as they come; silent if `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        """A display on standard error."""
        self._console = Console(stderr=True, quiet=quiet)
        self._bars = Bars(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[words]}"),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}

    def tell(self, phase: str, event: str, **fields: Any) -> None:
        """Show an event of the experiment."""
        if phase not in self._tasks:
            self._bars.start()
            self._finish_all()
            self._tasks[phase] = self._bars.add_task(
                TITLES.get(phase, phase.capitalize()), total=fields.get("steps"), words=""
            )
        if event == "health":
            self._say(f"health: {fields['why']}: {fields['action']}")
        elif event == "stopped" and phase != "run":
            self._say(f"stopped: {fields['why']}")
        elif words := _WORDS.get((phase.partition(" ")[0], event)):
            self._bars.update(
                self._tasks[phase],
                completed=fields.get("step", 0),
                total=fields.get("steps"),
                words=words(fields),
            )

    def _say(self, words: str) -> None:
        self._bars.console.print(f"  {words}", style="yellow", highlight=False, markup=False)

    def __enter__(self) -> "Progress":
        """Nothing yet: the display starts with the first event, so that mistakes stay one line."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bars as they are."""
        if self._tasks:
            if kind is None:
                self._finish_all()
            self._bars.stop()

    def _finish_all(self) -> None:
        for task in self._bars.tasks:
            total = task.total or 1
            self._bars.update(task.id, total=total, completed=total)


def _backbone(fields: dict[str, Any]) -> str:
    return f"{fields['nll_val']:.2f} nats on validation data"


def _tilt(fields: dict[str, Any]) -> str:
    return (
        f"gain {fields['gain_val']:+.2f} nats by witnesses, acceptance {fields['acceptance']:.2f}"
    )


def _contrast(fields: dict[str, Any]) -> str:
    return f"told apart {fields['accuracy']:.1%} of the time"


def _looking(fields: dict[str, Any]) -> str:
    return f"chains afresh: {fields['done']} of {fields['total']} transitions"


def _sampling(fields: dict[str, Any]) -> str:
    part = "warm-up" if fields["part"] == "warmup" else "sampling"
    return (
        f"{part}, acceptance {fields['acceptance']:.2f}, step {fields['step_size']:.3f}, "
        f"{fields['divergences']} divergences{_look(fields)}"
    )


def _look(fields: dict[str, Any]) -> str:
    """Speed, and the worst R-hat and effective size so far, where they are told."""
    words = ""
    if fields.get("rate", 0) > 0:
        words += f", {fields['rate']:,.0f} transitions/s"
    if math.isfinite(fields.get("rhat", math.nan)):
        words += f", R-hat {fields['rhat']:.3f}, ESS {fields['ess']:,.0f}"
    return words


def _pilot(fields: dict[str, Any]) -> str:
    return f"{fields['name']}: {fields['ess_per_second']:,.0f} effective draws a second"


_WORDS: dict[tuple[str, str], Callable[[dict[str, Any]], str]] = {
    ("backbone", "began"): _backbone,
    ("backbone", "progress"): _backbone,
    ("members", "started"): lambda fields: "Gaussian mixtures, from several starts",
    ("members", "kept"): _backbone,
    ("member", "began"): _backbone,
    ("member", "progress"): _backbone,
    ("tilt", "stage"): _tilt,
    ("data_tilt", "stage"): _tilt,
    ("tilt", "contrast"): _contrast,
    ("tilt", "looking"): _looking,
    ("data_tilt", "looking"): _looking,
    ("pilot", "candidate"): _pilot,
    ("sampling", "progress"): _sampling,
    ("reference", "progress"): _sampling,
    ("ladder", "round"): lambda fields: f"between {fields['lower']:.2f} and {fields['upper']:.2f}",
    ("mixture", "started"): lambda fields: f"{fields['components']} components",
    ("quality", "started"): lambda fields: f"comparing {fields['rows']:,} rows",
    ("simple", "started"): lambda fields: "one Gaussian, a mixture, a histogram of each column",
    ("copies", "started"): lambda fields: f"looking among {fields['training']:,} training images",
    ("interpolation", "started"): lambda fields: "images between images",
    ("scores", "rows"): lambda fields: f"{fields['rows']:,} rows",
    ("completes", "rows"): lambda fields: f"{fields['rows']:,} rows",
    ("report", "started"): lambda fields: "drawing figures",
}


def lines_to_terminal(*, quiet: bool) -> Callable[[str], None]:
    """Lines of progress on standard error, if somebody looks at it and it is not `quiet`."""

    def tell(line: str) -> None:
        if not quiet and sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)

    return tell
