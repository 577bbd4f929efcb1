"""How fast learning goes on, told by the states that it offers to be kept; and its end on time."""

import time
from typing import Any

import numpy as np

from tiltflow.learning.keeping import KeepsNothing

LEAST = 3  # stages: the first compiles, and a rate is told between two


class Enough(Exception):
    """The time of a part is over."""


class Paced(KeepsNothing):
    """Notes when each step was reached, holds the newest state, and ends learning on time.

    Attributes:
        marks: seconds and steps, at every offer.
        state: what was offered last.
    """

    def __init__(self, until: float = float("inf")) -> None:
        """Until a moment of the monotonic clock, or one stage later; three stages at least."""
        super().__init__()
        self.until: float = until
        self.marks: list[tuple[float, int]] = []
        self.state: Any = None

    @property
    def steps(self) -> int:
        """Reached at the last offer."""
        return self.marks[-1][1] if self.marks else 0

    def offer(self, stage: str, step: int, tree: Any, plain: dict[str, Any]) -> None:
        """Take the state."""
        self.marks.append((time.monotonic(), step))
        self.state = tree
        if len(self.marks) >= LEAST and time.monotonic() > self.until:
            raise Enough


def paced(pace: Paced, batch: int) -> dict[str, float | None]:
    """Steps and rows a second, medians over stages; the first, which compiles, is left out."""
    marks = np.asarray(pace.marks, float).reshape(-1, 2)
    if len(marks) < 2:
        return {"steps_per_second": None, "rows_per_second": None}
    seconds, steps = np.diff(marks, axis=0).T
    rate = float(np.median(steps / seconds))
    return {"steps_per_second": rate, "rows_per_second": batch * rate}
