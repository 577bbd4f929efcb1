"""What a run tells while it goes on."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """After each chunk.

    Attributes:
        done, total: transitions of each chain, warm-up included; `total` if nothing stops earlier.
        phase: `"warmup"` or `"sampling"`.
        acceptance: the mean of the chunk.
        step_size, length: of its last transition.
        divergences: of the phase so far, over all chains.
        draws: kept of each chain so far.
        rate: transitions a second, of each chain, since the first chunk, which may have compiled;
            0 before.
        seconds_left: at this rate; infinite before there is one.
        ess, rhat: the worst at the last look at the draws; NaN before it, and if nobody looks.
    """

    done: int
    total: int
    phase: str
    acceptance: float
    step_size: float
    length: float
    divergences: int
    draws: int
    rate: float
    seconds_left: float
    ess: float
    rhat: float

    def event(self) -> dict[str, float | int | str]:
        """The fields of a progress event: what does not depend on the clock."""
        return {
            "step": self.done,
            "steps": self.total,
            "part": self.phase,
            "acceptance": self.acceptance,
            "step_size": self.step_size,
            "divergences": self.divergences,
        }


News = Progress  # its former name

OnChunk = Callable[[Progress], None]


class Clock:
    """Times a run: the first chunk, which may compile, does not count for the rate."""

    def __init__(self) -> None:
        """Starts now."""
        self._start = time.monotonic()
        self._mark: tuple[float, int] | None = None
        self._sampling: float | None = None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def mark_sampling(self) -> None:
        """The first call says that sampling begins."""
        if self._sampling is None:
            self._sampling = self.seconds

    @property
    def sampling_seconds(self) -> float:
        """Since sampling began; 0 if it has not."""
        return 0.0 if self._sampling is None else self.seconds - self._sampling

    def rate(self, done: int) -> float:
        """Transitions a second since the first call, when `done` of them are done."""
        now = time.monotonic()
        if self._mark is None:
            self._mark = now, done
        since, before = self._mark
        return (done - before) / max(now - since, 1e-9) if done > before else 0.0


def left(remaining: int, rate: float) -> float:
    """Seconds for `remaining` transitions."""
    return remaining / rate if rate > 0 else float("inf")
