"""What a fit writes and shows: everything in the first process, nothing in the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tiltflow.cli.progress import Progress
from tiltflow.errors import InputError
from tiltflow.fitting.judging import Result
from tiltflow.learning.keeping import Keeper
from tiltflow.parallel.processes import is_first, several
from tiltflow.report import page
from tiltflow.runs import RunStore
from tiltflow.runs.checkpoint import Checkpoints
from tiltflow.runs.resume_check import check_same_everywhere, check_same_fit, moved
from tiltflow.runs.shared_checkpoints import SharedCheckpoints, agreed
from tiltflow.runs.tensorboard import FOLDER, TensorBoard


@dataclass(frozen=True)
class Options:
    """How it is written.

    Attributes:
        overwrite, resume: as in `RunStore.create`.
        every: seconds between two checkpoints.
        every_steps: steps between two, or None.
        quiet: whether no progress is shown.
        tensorboard: whether there are curves in the run, too.
    """

    overwrite: bool = False
    resume: bool = False
    every: float = math.inf
    every_steps: int | None = None
    quiet: bool = False
    tensorboard: bool = False


class Recording:
    """The run's folder, the progress on the terminal, the checkpoints.

    Attributes:
        keeper: of the fit, once it is entered.
    """

    keeper: Keeper

    def __init__(
        self,
        out: Path,
        table: Mapping[str, Any],
        stop: Callable[[], str | None],
        options: Options,
    ) -> None:
        """Nothing is touched before it is entered.

        Args:
            out: the run's folder.
            table: its configuration.
            stop: why this process is to stop, or None.
            options: see there.
        """
        self._out, self._table, self._options = out, table, options
        words = f"interrupted; everything so far is in {out}: go on with --resume"
        self._stop = agreed(stop, words) if several() else stop
        self._stack = ExitStack()
        self._store: RunStore | None = None

    def __enter__(self) -> Recording:
        """Begin the run, or go on with it; raises InputError if that cannot be."""
        if several():
            check_same_everywhere(self._table)
        checkpoints = None
        with ExitStack() as stack:
            if is_first():
                checkpoints = self._open(stack)
            self._stack = stack.pop_all()
        self.keeper = (
            checkpoints
            if checkpoints is not None and not several()
            else SharedCheckpoints(checkpoints, self._stop)
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the run, or abandon it."""
        self._stack.__exit__(kind, error, trace)

    def listen(self, phase: str, event: str, **fields: Any) -> None:
        """Write an event and show it."""
        if self._store is None:
            return
        self._store.log.write(phase, event, **fields)
        self._progress.tell(phase, event, **fields)
        if self._board is not None:
            self._board.tell(phase, event, **fields)

    def finish(self, result: Result) -> None:
        """Write the model, the numbers and the report."""
        if self._store is None:
            return
        result.model.save(self._store.part("model"))
        self._store.write_metrics(result.metrics)
        self._store.write_arrays("evidence", result.evidence)
        self.listen("report", "started")
        page.write_report(self._store.folder, name=self._store.path.name)
        if self._board is not None:
            self._board.show(self._store.folder / "figures")

    def _open(self, stack: ExitStack) -> Checkpoints:
        options = self._options
        store = RunStore.create(self._out, overwrite=options.overwrite, resume=options.resume)
        if store.resumed:
            try:
                check_same_fit(store.config(), self._table, str(self._out))
            except InputError:
                store.abandon()  # without a word: it is the run of somebody else
                raise
        stack.enter_context(store)
        self._progress = stack.enter_context(Progress(quiet=options.quiet))
        if not store.resumed or moved(store.config(), self._table):
            store.write_config(self._table)
        checkpoints = Checkpoints(
            store.checkpoints,
            store.log,
            every=options.every,
            every_steps=options.every_steps,
            stop=self._stop,
        )
        self._board = None
        if options.tensorboard:
            self._board = stack.enter_context(TensorBoard(store.part(FOLDER), store.events()))
        self._store = store
        return checkpoints
