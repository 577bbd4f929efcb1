"""`tiltflow complete RUN DATA --out FILE`."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed
from tiltflow.cli.status import FAILED, of_verdict

if TYPE_CHECKING:
    import numpy as np

    from tiltflow.data.categories import Levels
    from tiltflow.model.completion import Completion
    from tiltflow.model.fitted import FittedModel

TOGETHER = 256  # rows between two words on how far it is
KEPT = ("missing", "pareto_k", "rhat", "ess")
"""Arrays beside the rows in a .npz file."""


def complete(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    data: Annotated[
        str,
        Parameter(
            help="Rows with gaps: cells that are empty, NA, NaN, null or ?, null in Parquet, NaN "
            "in .npy and .npz."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path, Parameter(help="A .csv or .parquet file for a table, or a .npz file for any rows.")
    ],
    draws: Annotated[int, Parameter(help="Of each row; 1 fills the gaps once.")] = 10,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Fill the gaps of DATA with draws of what is missing given what is there, and judge them.

    With `--draws 1` the file has DATA's columns that the model knows, and a row for each of DATA's;
    with more, each row stands there so many times, known by its number in DATA (`row`, from 0) and
    that of the `draw`: what differs between the draws of a row is not known. What is there is
    not changed. Exits with status 3 if chains of too many rows do not agree, or the run's verdict
    is failed.
    """
    import numpy as np

    from tiltflow.cli.progress import Progress
    from tiltflow.cli.run_data import columns_of, pictures_like
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_completion import show_completion
    from tiltflow.data.gaps import read_gaps
    from tiltflow.errors import InputError
    from tiltflow.model.completion import Completer
    from tiltflow.model.loading import load_model
    from tiltflow.runs import RunStore
    from tiltflow.runs.row_tables import writing_rows

    store = RunStore.open(run)
    fitted = load_model(store.folder / "model")
    shape = fitted.model.backbone.data_shape
    _check(out, shape, overwrite=overwrite)
    columns = columns_of(store, fitted)
    texts = fitted.texts.with_gaps()
    how = {"key": key, **pictures_like(store, data)}
    found = read_gaps(data, fitted.width, columns=columns, texts=texts, **how)
    completer = Completer(fitted, draws=draws, seed=seed)
    began, seen, kept = time.monotonic(), _Seen(), []
    names = columns or tuple(f"column_{place}" for place in range(shape[0]))
    as_table = out.suffix != ".npz"
    with (
        Progress(quiet=json) as progress,
        writing_rows(out) if as_table else nullcontext() as table,
    ):
        for batch in found.rows:
            for start in range(0, len(batch.values), TOGETHER):
                some = batch.values[start : start + TOGETHER]
                completed = completer(some, first=batch.start + start, texts=texts)
                seen.add(completed)
                if table is None:
                    kept.append(completed)
                else:
                    table.write(_columns(fitted, completed, names, batch.start + start))
                if seen.values:
                    progress.tell("completes", "rows", rows=seen.rows)
        if not seen.values:
            words = "no rows" if not seen.rows else f"no gap in any of {seen.rows:,} rows"
            raise InputError(f"{data} has {words}; expected some with an empty cell, or NaN")
    if not as_table:
        _write_arrays(out, kept)
    failed = store.metrics().get("verdict", {}).get("status") == "failed"
    verdict = seen.verdict()
    facts: dict[str, Any] = {
        "run": str(store.path),
        "data": found.name,
        "completed": str(out),
        "rows": seen.rows,
        "rows_with_gaps": int(np.sum(seen.with_gaps)),
        "missing": seen.values,
        "draws": draws,
        "left_out": list(found.left_out),
        "doubtful": seen.doubtful(),
        "verdict": verdict,
        "run_failed": failed,
        "seconds": round(time.monotonic() - began, 2),
    }
    if json:
        show_json(facts)
    else:
        show_completion(facts)
    return FAILED if failed else of_verdict(verdict)


class _Seen:
    """What has been seen while rows were filled."""

    def __init__(self) -> None:
        self.rows = self.values = 0
        self._parts: list[Any] = []

    def add(self, completed: "Completion") -> None:
        gaps = completed.has_gaps
        self.rows += len(gaps)
        self.values += int(completed.missing.sum())
        told = (gaps, completed.rhat, completed.ess, completed.empty, completed.divergent)
        self._parts.append(told)

    @property
    def with_gaps(self) -> "np.ndarray":
        import numpy as np

        return np.concatenate([part[0] for part in self._parts])

    def _each(self) -> tuple[Any, ...]:
        import numpy as np

        return tuple(np.concatenate([part[i] for part in self._parts]) for i in range(4))

    def verdict(self) -> dict[str, Any]:
        import numpy as np

        from tiltflow.model.completion import verdict_on

        gaps, rhat, ess, empty = self._each()
        weights = [max(int(part[0].sum()), 1e-9) for part in self._parts]
        divergent = float(np.average([part[4] for part in self._parts], weights=weights))
        return verdict_on(rhat[gaps], ess[gaps], empty[gaps], divergent)

    def doubtful(self) -> list[int]:
        """Rows whose chains do not agree, or of which the model has no density."""
        import numpy as np

        from tiltflow.diagnostics.verdict import DISAGREE, FEWEST_ESS

        gaps, rhat, ess, empty = self._each()
        apart = (rhat > DISAGREE) | ~(ess >= FEWEST_ESS)
        return np.flatnonzero(gaps & (empty | apart)).tolist()


def _check(out: Path, shape: tuple[int, ...], *, overwrite: bool) -> None:
    from tiltflow.errors import InputError
    from tiltflow.runs.row_tables import check_out

    check_out(out, overwrite=overwrite, also=(".npz",))
    if len(shape) > 1 and out.suffix != ".npz":
        raise InputError(
            f"--out {out}: the rows are arrays of shape {shape} and no rows of a table; expected a "
            f"name that ends in .npz"
        )


def _columns(
    fitted: "FittedModel", completed: "Completion", names: tuple[str, ...], first: int
) -> dict[str, Any]:
    """The columns of the table: rows in their order, the draws of each together."""
    import numpy as np

    rows, draws, width = completed.values.shape
    levels = {} if fitted.grid is None else fitted.grid.levels
    values = completed.values.reshape(-1, width)
    drawn = np.repeat(completed.missing[:, None], draws, axis=1).reshape(-1, width)
    about: dict[str, Any] = {}
    if draws > 1:
        about["row"] = np.repeat(np.arange(first, first + rows), draws)
        about["draw"] = np.tile(np.arange(draws), rows)
    return about | {
        name: _labels(levels[i], values[:, i])
        if i in levels
        else _told(values[:, i], drawn[:, i], integers=fitted.integers)
        for i, name in enumerate(names)
    }


def _labels(levels: "Levels", column: "np.ndarray") -> Any:
    """The labels of a category; null where a row has no density."""
    import numpy as np
    import pyarrow

    unknown = np.isnan(column)
    if not levels.are_text:
        return column
    return pyarrow.array(levels.labelled(np.where(unknown, 0, column)), mask=unknown)


def _told(column: "np.ndarray", drawn: "np.ndarray", *, integers: bool) -> Any:
    """Numbers that were there as they were; those drawn with as many digits as float32 has."""
    import numpy as np
    import pyarrow

    if integers:
        unknown = np.isnan(column)
        whole = np.where(unknown, 0, column).astype(np.int64)
        return pyarrow.array(whole, mask=unknown)
    told = column.copy()
    told[drawn] = column[drawn].astype(np.float32).astype(str).astype(np.float64)
    return told


def _write_arrays(out: Path, parts: "list[Completion]") -> None:
    import numpy as np

    from tiltflow.runs import atomic

    arrays = {
        name: np.concatenate([getattr(part, of) for part in parts])
        for name, of in (("x", "values"), *zip(KEPT, KEPT, strict=True))
    }
    atomic.write_arrays(out, arrays)
