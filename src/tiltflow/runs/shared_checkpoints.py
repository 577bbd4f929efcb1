"""One keeper for several processes: the first has the checkpoints, the others hear of them.

So a checkpoint is written once, and a fit can be gone on with where only the first process sees
the folder. All processes make the same calls, and are asked to stop at the same one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import safetensors.numpy

from tiltflow.errors import Interrupted
from tiltflow.parallel.processes import anywhere, from_first
from tiltflow.runs.checkpoint import Checkpoints, arrays_of, filled

Found = tuple[Any, dict[str, Any]] | None


def agreed(stop: Callable[[], str | None], words: str) -> Callable[[], str | None]:
    """`stop` of this process or of any other; `words` where it was another that is to stop."""

    def why() -> str | None:
        own = stop()
        return (own or words) if anywhere(own is not None) else None

    return why


class SharedCheckpoints:
    """A keeper (`learning/keeping.py`) with the first process's checkpoints behind it."""

    def __init__(self, checkpoints: Checkpoints | None, stop: Callable[[], str | None]) -> None:
        """Begin.

        Args:
            checkpoints: of the first process, None in the others; asks the same `stop`.
            stop: why the fit is to stop, or None; `agreed`.
        """
        self._checkpoints, self._stop = checkpoints, stop
        self._began = time.monotonic()

    def clock(self) -> float:
        """Seconds since the fit was begun, as far as this process knows."""
        if self._checkpoints is not None:
            return self._checkpoints.clock()
        return time.monotonic() - self._began

    def last(self, stage: str, like: Any) -> Found:
        """The newest whole state of a stage; see `Keeper.last`."""
        return _heard(self._checkpoints and self._checkpoints.last(stage, like), like)

    def finished(self, stage: str, like: Any) -> Found:
        """The result of a finished stage; see `Keeper.finished`."""
        return _heard(self._checkpoints and self._checkpoints.finished(stage, like), like)

    def offer(self, stage: str, step: int, tree: Any, plain: dict[str, Any]) -> None:
        """Save a state if it is time; see `Keeper.offer`."""
        if self._checkpoints is not None:
            self._checkpoints.offer(stage, step, tree, plain)
        else:
            self.listen()

    def finish(self, stage: str, tree: Any, plain: dict[str, Any]) -> None:
        """Save the result of a stage; see `Keeper.finish`."""
        if self._checkpoints is not None:
            self._checkpoints.finish(stage, tree, plain)
        else:
            self.listen()

    def listen(self) -> None:
        """Raises Interrupted if the fit is to stop; see `Keeper.listen`."""
        if self._checkpoints is not None:
            self._checkpoints.listen()
        elif why := self._stop():
            raise Interrupted(why)


def _heard(found: Found, like: Any) -> Found:
    """What the first process has found, in all of them."""
    plain = json.loads(from_first(json.dumps(found and found[1]).encode()))
    if plain is None:
        return None
    arrays = {} if found is None else arrays_of(found[0])
    told = safetensors.numpy.load(from_first(safetensors.numpy.save(arrays)))
    return filled(like, told, "the first process"), plain
