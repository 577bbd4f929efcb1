"""What a long computation offers to be kept between two chunks, so that it can be gone on with.

A stage is a part of a fit: the backbone, the tilt. While it goes on it offers its state, which a
keeper saves now and then; a stage that is begun again asks for the last state first. A state is a
pytree, of which the arrays are kept, and plain numbers beside it. Going on from it gives the same
numbers, bit for bit, as never having stopped.
"""

import time
from typing import Any, Protocol

Plain = dict[str, Any]
"""Numbers, words and lists of them: what JSON can say exactly."""


class Keeper(Protocol):
    """Keeps states; `runs.checkpoint.Checkpoints` does so in a folder."""

    def clock(self) -> float:
        """Seconds since the fit was begun, those before an interruption counted."""
        ...

    def last(self, stage: str, like: Any) -> tuple[Any, Plain] | None:
        """The last state of a stage that was not finished, or None.

        Args:
            stage: its name.
            like: a pytree of the same structure, whose arrays are replaced; None: a list of the
                arrays comes back, in the order of the leaves, where their shapes are not known.
        """
        ...

    def offer(self, stage: str, step: int, tree: Any, plain: Plain) -> None:
        """Save the state if it is time, and always before stopping.

        Raises:
            Interrupted: the fit was asked to stop; the state is saved.
        """
        ...

    def finished(self, stage: str, like: Any) -> tuple[Any, Plain] | None:
        """The result of a stage that was finished, or None; `like` as in `last`."""
        ...

    def finish(self, stage: str, tree: Any, plain: Plain) -> None:
        """Keep the result of a stage; its states are not needed any more."""
        ...

    def listen(self) -> None:
        """Asked where there is no new state: the one offered last is saved before stopping.

        Raises:
            Interrupted: the fit was asked to stop.
        """
        ...


class KeepsNothing:
    """A keeper for fits that are not to be gone on with."""

    def __init__(self) -> None:
        """Its clock starts."""
        self._began = time.monotonic()

    def clock(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

    def last(self, stage: str, like: Any) -> None:
        """Nothing."""

    def offer(self, stage: str, step: int, tree: Any, plain: Plain) -> None:
        """Nothing happens."""

    def finished(self, stage: str, like: Any) -> None:
        """Nothing."""

    def finish(self, stage: str, tree: Any, plain: Plain) -> None:
        """Nothing happens."""

    def listen(self) -> None:
        """Nothing happens."""
