"""Where draws go: a sink takes chunk after chunk, and knows where a former run stopped.

A chunk is a dictionary of arrays `[draws, chains, ...]`, all with the same number of draws, which
may be 0 (warm-up). `tiltflow.runs.draws` has the sink that writes a folder.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tiltflow.errors import InputError

Chunk = Mapping[str, np.ndarray]


class Counts(NamedTuple):
    """How far a run is; plain numbers, exact when written as JSON.

    Attributes:
        transitions: of warm-up and sampling.
        draws: kept of each chain.
        accepted: the sum over transitions of the chains' mean acceptance, in this phase.
        divergences: over all chains, in this phase.
        gradients: of each chain, in this phase.
    """

    transitions: int = 0
    draws: int = 0
    accepted: float = 0.0
    divergences: int = 0
    gradients: int = 0


class Saved(NamedTuple):
    """What a sink gives back of a former run.

    Attributes:
        carry: the leaves of the program's carry, in order.
        counts: how far it was.
    """

    carry: list[np.ndarray]
    counts: Counts


class Sink(Protocol):
    """Where a run's draws go."""

    def open(self, identity: dict[str, Any]) -> Saved | None:
        """Begin; the state of a former run of the same `identity`, if it is to be resumed.

        Raises:
            InputError: the sink is taken, or holds a run of another identity.
        """
        ...

    def write(self, chunk: Chunk, carry: Any, counts: Counts) -> None:
        """Add a chunk; `carry` and `counts` are those after it."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All draws by name, `[chains, draws, ...]`."""
        ...

    def close(self) -> None:
        """No more chunks come; what was written can still be read."""
        ...


class Memory:
    """Host arrays for at most `draws` draws of each chain."""

    def __init__(self, draws: int) -> None:
        """Nothing is allocated before the first chunk."""
        self.draws = draws
        self.done = 0
        self._arrays: dict[str, np.ndarray] = {}

    def open(self, identity: dict[str, Any]) -> Saved | None:
        """Nothing is remembered from former runs."""

    def write(self, chunk: Chunk, carry: Any, counts: Counts) -> None:
        """Copy the chunk into its place."""
        if not self._arrays:
            self._arrays = {name: self._empty(rows) for name, rows in chunk.items()}
        for name, rows in chunk.items():
            self._arrays[name][:, self.done : counts.draws] = np.swapaxes(rows, 0, 1)
        self.done = counts.draws

    def arrays(self) -> dict[str, np.ndarray]:
        """What was written; no copy."""
        return {name: array[:, : self.done] for name, array in self._arrays.items()}

    def close(self) -> None:
        """Nothing to let go."""

    def _empty(self, rows: np.ndarray) -> np.ndarray:
        return np.empty((rows.shape[1], self.draws, *rows.shape[2:]), rows.dtype)


class Nowhere:
    """Drops every draw: for runs of which only the moments are wanted."""

    def __init__(self) -> None:
        """Nothing to hold but the shapes."""
        self._arrays: dict[str, np.ndarray] = {}

    def open(self, identity: dict[str, Any]) -> None:
        """Nothing is remembered from former runs."""

    def write(self, chunk: Chunk, carry: Any, counts: Counts) -> None:
        """Remember no more than names and shapes."""
        self._arrays = {name: np.swapaxes(rows[:0], 0, 1).copy() for name, rows in chunk.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of no draws."""
        return self._arrays

    def close(self) -> None:
        """Nothing to let go."""


def restored(like: Any, leaves: list[np.ndarray]) -> Any:
    """The pytree `like` with other leaves, in order.

    Raises:
        InputError: they are not of the same number, shapes and types.
    """
    found, wanted = ([(x.shape, x.dtype) for x in xs] for xs in (leaves, jax.tree.leaves(like)))
    if found != wanted:
        raise InputError(
            "what was saved of the chains is not of this kernel and target: sample again"
        )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(leaf) for leaf in leaves])
