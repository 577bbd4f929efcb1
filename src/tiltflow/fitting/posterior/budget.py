"""What a run may spend: seconds and evaluations, and what each stage has spent of them."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real

from tiltflow.errors import InputError

Tell = Callable[[str], None]


def to_terminal(line: str) -> None:
    """A line of progress on standard error, if somebody looks at it."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """No line of progress."""


@dataclass
class Spent:
    """What a stage has spent."""

    seconds: float = 0.0
    evaluations: int = 0


@dataclass
class Budget:
    """Limits, and a clock. An evaluation is one log-density of one point, with or without gradient.

    Attributes:
        seconds, evaluations: at most so many in all; None: no limit.
        tell: called with a line when a stage says how it goes.
        stages: what each has spent, by name.
        started: the clock's, at the beginning; earlier by what former runs have spent.
        pace: seconds that a unit of each stage took last; a unit is what the stage says.
        ended: the clock's, when the run was over.
        counter: how many evaluations there have been, where that is counted; None: stages say it.
    """

    seconds: float | None = None
    evaluations: int | None = None
    tell: Tell = to_terminal
    stages: dict[str, Spent] = field(default_factory=dict)
    started: float = field(default_factory=lambda: time.monotonic())
    pace: dict[str, float] = field(default_factory=dict)
    counter: Callable[[], int] | None = None
    ended: float | None = None

    def __post_init__(self) -> None:
        """Raises InputError for a limit that is no positive number."""
        for name in ("seconds", "evaluations"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, Real) and float(limit) > 0):
                raise InputError(f"{name} is {limit!r:.60}; expected a positive number, or None")
        self._mark, self._counted = time.monotonic(), 0

    @property
    def used(self) -> int:
        """Evaluations so far."""
        return sum(stage.evaluations for stage in self.stages.values())

    @property
    def elapsed(self) -> float:
        """Seconds so far, or of the whole run once it is over."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def left(self) -> tuple[float, float]:
        """Seconds and evaluations; infinite where there is no limit."""
        seconds = float("inf") if self.seconds is None else self.seconds - self.elapsed
        number = float("inf") if self.evaluations is None else self.evaluations - self.used
        return seconds, float(number)

    def allows(self, seconds: float, evaluations: int) -> bool:
        """Whether so much more stays within both limits."""
        time_left, number_left = self.left()
        return time_left >= seconds and number_left >= evaluations

    def keeps(self, reserve: float, evaluations: int = 0) -> bool:
        """Whether a share `reserve` of both limits is left, after so many evaluations."""
        return self.allows(
            reserve * (self.seconds or 0.0), evaluations + int(reserve * (self.evaluations or 0))
        )

    def expected(self, units: dict[str, float]) -> float:
        """Seconds that so many units of stages should take; those never done count nothing."""
        return sum(self.pace.get(stage, 0.0) * number for stage, number in units.items())

    def until(self, reserve: float) -> float:
        """The clock's, when no more than a share `reserve` of the seconds is left."""
        if self.seconds is None:
            return float("inf")
        return self.started + (1.0 - reserve) * self.seconds

    def spend(
        self, stage: str, evaluations: int, words: str = "", units: float | None = None
    ) -> None:
        """Book what was done since the last booking, and tell it if there are words.

        Args:
            stage: its name.
            evaluations: how many, if they are not counted.
            words: what to tell.
            units: how much of it was done, where its pace is to be known.
        """
        now = time.monotonic()
        spent = self.stages.setdefault(stage, Spent())
        spent.seconds += now - self._mark
        if units:
            self.pace[stage] = (now - self._mark) / units
        if self.counter is not None:
            counted = self.counter()
            evaluations, self._counted = counted - self._counted, counted
        spent.evaluations += int(evaluations)
        self._mark = now
        if words:
            limit = "" if self.seconds is None else f" of {self.seconds:.0f}"
            counted = f"{_short(self.used):>6} evaluations"
            self.tell(f"{self.elapsed:6.1f}{limit} s  {counted}  {stage}: {words}")

    @property
    def words(self) -> str:
        """All stages in a line."""
        return ", ".join(
            f"{name} {stage.seconds:.1f} s {_short(stage.evaluations)}"
            for name, stage in self.stages.items()
        )


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
