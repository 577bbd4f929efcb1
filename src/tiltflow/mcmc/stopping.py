"""When to stop early: targets, held against a bounded history of what the chains do.

The history is a function of the draws alone (every 1st, 2nd, 4th, ... of them, so many that it
stays bounded), and so is the moment of every look at it. A run that was interrupted and resumed
looks at the same moments at the same history, and stops where it would have stopped.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tiltflow.errors import InputError
from tiltflow.mcmc.program import ENERGIES, RECORDS
from tiltflow.mcmc.sinks import Chunk

Diagnose = Callable[[np.ndarray], tuple[float, float]]
"""From draws, `[chains, draws, quantities]`, the worst bulk ESS and the worst R-hat."""

LEAST = 20  # draws of each chain before the first look
GROWTH = 1.1  # a look when there are so many times more draws than at the last
MOST = 500  # draws of each chain that the history has room for
TOTAL = 32_000  # draws of all chains that are enough; the target may need more


@dataclass(frozen=True)
class Until:
    """Targets to stop at; with both `ess` and `rhat` both must be reached.

    Attributes:
        ess: of the worst quantity, bulk, all chains together.
        rhat: the largest that is good enough, above 1.
        seconds: a limit on the whole call, warm-up included.
        least: draws of each chain that are made before a target ends the run.
    """

    ess: float | None = None
    rhat: float | None = None
    seconds: float | None = None
    least: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for a target that cannot be."""
        for name, least in (("ess", 0.0), ("rhat", 1.0), ("seconds", 0.0)):
            value = getattr(self, name)
            if value is not None and not least < value < math.inf:
                raise InputError(
                    f"the target {name} is {value!r}; expected a finite number above {least:g}"
                )

    @property
    def targets(self) -> str:
        """The names of the targets that draws must reach, as `Draws.stopped` has them."""
        return " and ".join(name for name in ("ess", "rhat") if getattr(self, name) is not None)

    def reached(self, ess: float, rhat: float, draws: int | None = None) -> bool:
        """Whether the targets hold; never with a NaN, nor if there are none.

        `draws` have been made of each chain; None: as many as it takes.
        """
        enough = draws is None or draws >= self.least
        return (
            bool(self.targets)
            and enough
            and not (
                (self.ess is not None and not ess >= self.ess)
                or (self.rhat is not None and not rhat <= self.rhat)
            )
        )


class Look(NamedTuple):
    """The worst bulk effective size and the worst R-hat, at the last look; NaN before it."""

    ess: float = math.nan
    rhat: float = math.nan


class Monitor:
    """Watches the quantities of the draws: coordinates and summaries, not the kernel's records.

    Attributes:
        look: the last one.
    """

    def __init__(self, diagnose: Diagnose, chains: int, until: Until) -> None:
        """Room for four times the target of effective draws, so that thinning does not hide it."""
        self.look = Look()
        self._diagnose = diagnose
        needed = math.ceil(4 * (until.ess or 0) / chains)
        self._room = max(2 * LEAST, min(MOST, TOTAL // chains), needed)
        self._stride = 1
        self._rows: list[np.ndarray] = []

    def watch(self, chunk: Chunk, draws: int) -> None:
        """Take in a chunk, `draws` being their number after it, and look if a look is due."""
        count = len(chunk[ENERGIES])
        before = draws - count
        for row in range(-before % self._stride, count, self._stride):
            self._rows.append(_quantities(chunk, row))
        while len(self._rows) > self._room:
            self._rows = self._rows[::2]
            self._stride *= 2
        if draws < LEAST or _looks(draws) == _looks(before):
            return
        history = np.stack(self._rows, axis=1)
        moving = ~(np.ptp(history, axis=(0, 1)) == 0)  # what is no number moves
        self.look = Look(*self._diagnose(history[..., moving])) if moving.any() else Look()

    def replay(self, arrays: dict[str, np.ndarray], ends: Iterable[int]) -> None:
        """Take in a former run, `[chains, draws, ...]`, whose chunks ended at these draws."""
        first = 0
        for last in ends:
            self.watch({k: np.swapaxes(x[:, first:last], 0, 1) for k, x in arrays.items()}, last)
            first = last


def _quantities(chunk: Chunk, row: int) -> np.ndarray:
    """All that is watched of one draw, `[chains, quantities]`."""
    watched = [values[row] for name, values in chunk.items() if name not in RECORDS]
    parts = [np.reshape(values, (len(values), -1)) for values in watched]
    return np.concatenate(parts, axis=1)


def _looks(draws: int) -> int:
    """How many looks have been due at so many draws."""
    return 0 if draws < LEAST else 1 + int(math.log(draws / LEAST) / math.log(GROWTH))
