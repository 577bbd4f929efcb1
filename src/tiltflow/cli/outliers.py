"""`tiltflow outliers RUN DATA`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed

if TYPE_CHECKING:
    import numpy as np


def outliers(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    data: Annotated[str, Parameter(help="Rows to look at, as the run's own.")],
    /,
    *,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    labels: Annotated[
        Path | None,
        Parameter(
            help="Which rows are outliers, 1 or 0 a row: a .npy file, a column of a table, or a "
            ".npz file with labels beside its data."
        ),
    ] = None,
    clean: Annotated[
        bool,
        Parameter(
            negative=(),
            help="The run's training rows have no outliers among them: learn from all of them, "
            "not from the more ordinary half.",
        ),
    ] = False,
    rate: Annotated[float, Parameter(help="Of false alarms: rows with p up to it are flagged.")] = (
        0.05
    ),
    show: Annotated[int, Parameter(help="How many of the strangest rows are told.")] = 10,
    picture: Annotated[
        Path | None, Parameter(help="A .png file for the distributions of the scores.")
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Find the strangest rows of DATA, and say which columns make them strange.

    Several scores stand side by side: densities of blurred rows, RUN's model, and baselines, all
    learned from the run's training rows without labels. With `--labels` each is told by AUROC,
    average precision and FPR95, with intervals.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.run_data import other_rows, run_data
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_outliers import show_outliers
    from tiltflow.data import split
    from tiltflow.evaluation.outliers.of_run import outliers_of
    from tiltflow.model.loading import load_model
    from tiltflow.report.outliers import write_scores
    from tiltflow.runs import RunStore

    store = RunStore.open(run)
    if picture is not None:
        _check_picture(picture, overwrite=overwrite)
    rows = other_rows(store, data, key)
    known = None if labels is None else _labels(labels)
    own = run_data(store)
    parts = split(own)
    fitted = load_model(store.folder / "model")
    with Progress(quiet=json) as progress:
        found = outliers_of(
            fitted,
            own.take(parts.train).values,
            own.take(parts.val).values,
            rows.values,
            labels=known,
            contaminated=not clean,
            rate=rate,
            show=show,
            seed=seed,
            listen=progress.tell,
        )
    if picture is not None:
        write_scores(picture, found)
    if json:
        show_json({"run": str(store.path), "data": rows.name, **found.to_dict()})
    else:
        show_outliers(found, rows.name, rows.columns or own.columns, own.shape)
    return 0


def _labels(path: Path) -> "np.ndarray":
    """The labels in a file, `[rows]`, whatever their values.

    Raises:
        InputError: a file that cannot be read, or that has more than one column.
    """
    import numpy as np

    from tiltflow.data.sources import read
    from tiltflow.errors import InputError

    if path.suffix == ".npy" and path.is_file():
        try:
            array: Any = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} is no whole .npy file of numbers ({error})") from None
    else:
        found = read(path)
        array = found.array if found.labels is None else found.labels
    array = np.asarray(array)
    if array.ndim != 1 and array.size != len(array):
        raise InputError(f"{path} has shape {array.shape}; expected one label a row, 1 or 0")
    return array.ravel()


def _check_picture(path: Path, *, overwrite: bool) -> None:
    """Raises InputError if no picture can be written there."""
    from tiltflow.errors import InputError

    if path.suffix != ".png":
        raise InputError(f"--picture {path}: expected a name that ends in .png")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} is not a folder that can be written: choose another")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another --picture, or pass --overwrite")
