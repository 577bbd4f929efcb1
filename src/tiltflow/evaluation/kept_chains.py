"""Final chains, and the ladder after them, that can be gone on with: states of stages of their own.

A keeper is offered where chains are after every chunk, with all draws so far, once the chunk was
told: it saves that now and then, and always before stopping. What is gone on with leaves the
numbers and the events of what never stopped.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tiltflow.learning.keeping import Keeper, KeepsNothing
from tiltflow.mcmc.sinks import Chunk, Counts, Memory, Saved

Listener = Callable[..., Any]


class KeptChains(Memory):
    """A sink (`mcmc/sinks.py`) in memory, whose state a keeper holds as a stage.

    Attributes:
        keeper, stage: who keeps it, by which name.
    """

    def __init__(self, draws: int, keeper: Keeper, stage: str) -> None:
        """For at most `draws` of each chain."""
        super().__init__(draws)
        self.keeper, self.stage = keeper, stage
        self._identity: dict[str, Any] = {}
        self._state: tuple[int, Any, dict[str, Any]] | None = None

    def open(self, identity: dict[str, Any]) -> Saved | None:
        """Begin, or go on from what was kept of the same chains; of others it is not taken."""
        self._identity = identity
        found = self.keeper.finished(self.stage, None) or self.keeper.last(self.stage, None)
        if found is None or found[1]["identity"] != identity:
            return None
        arrays, plain = found
        counts, names = Counts(**plain["counts"]), plain["names"]
        leaves = arrays[: len(arrays) - len(names)]
        if names:
            kept = arrays[len(leaves) :]
            super().write(
                {n: np.swapaxes(a, 0, 1) for n, a in zip(names, kept, strict=True)}, None, counts
            )
        self._remember(leaves, counts)
        return Saved(leaves, counts)

    def write(self, chunk: Chunk, carry: Any, counts: Counts) -> None:
        """Copy the chunk into its place; it is offered once it was told (`offer`)."""
        super().write(chunk, carry, counts)
        self._remember(jax.tree.leaves(carry), counts)

    def _remember(self, leaves: list[Any], counts: Counts) -> None:
        # Rows that are there do not change: a state may be written later than it was offered.
        arrays = self.arrays()
        plain = {"identity": self._identity, "counts": counts._asdict(), "names": list(arrays)}
        self._state = (counts.transitions, [*leaves, *arrays.values()], plain)

    def offer(self) -> None:
        """Let the keeper save the state; raises Interrupted if it was asked to stop."""
        if self._state is not None:
            self.keeper.offer(self.stage, *self._state)

    def finish(self) -> None:
        """All draws are there: they are kept until the fit ends."""
        if self._state is not None:
            self.keeper.finish(self.stage, *self._state[1:])


class KeptRounds:
    """The rounds of a ladder (`normalizer/annealed.py`), which a keeper holds as a stage."""

    def __init__(self, keeper: Keeper | None = None, stage: str = "ladder") -> None:
        """Nothing is kept without a keeper."""
        self.keeper, self.stage = keeper or KeepsNothing(), stage

    def last(self) -> tuple[list[np.ndarray], dict[str, Any]] | None:
        """The arrays and the plain values of the last round, if there are any."""
        return self.keeper.last(self.stage, None)

    def offer(self, rounds: int, arrays: list[np.ndarray], plain: dict[str, Any]) -> None:
        """Let the keeper save what so many rounds have told; raises Interrupted, as it may."""
        self.keeper.offer(self.stage, rounds, arrays, plain)
