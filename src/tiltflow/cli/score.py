"""`tiltflow score RUN DATA --out FILE`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tiltflow.cli.options import Json, Overwrite, Seed
from tiltflow.cli.status import FAILED

if TYPE_CHECKING:
    import numpy as np

    from tiltflow.model.fitted import FittedModel
    from tiltflow.runs import RunStore

MOST_HELD_OUT = 20_000


def score(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`.")],
    data: Annotated[str, Parameter(help="Rows to score, as the run's own; as many as there are.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="A .csv or .parquet file for the scores.")],
    id: Annotated[
        str | None,
        Parameter(help="The column of DATA that rows are known by, in place of their number."),
    ] = None,
    key: Annotated[
        str | None, Parameter(help="Which array of a .npz file, if it has several.")
    ] = None,
    tail: Annotated[
        bool,
        Parameter(
            negative="--no-tail",
            help="Read the run's data, and tell tail probabilities against its test rows.",
        ),
    ] = True,
    dequantisations: Annotated[int, Parameter(help="Points of each cell of integers, grids.")] = 16,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Score the rows of DATA one by one, in their order, however many there are.

    Columns: the row's number from 0 (or `--id`), log_p, log_q (the backbone alone), f, nats; tail,
    the share of held-out rows with a log p as low; outlier, 1 for rows that have no finite
    density: log_p is -inf. A row has the same scores alone and among others. Columns are found by
    their names, where they have names.

    Where the run's verdict is failed, or log Z is not known, log_p is left empty and the exit
    status is 3.
    """
    from tiltflow.cli.progress import Progress
    from tiltflow.cli.run_data import pictures_like
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_scores import show_scores
    from tiltflow.data.batches import read_batches
    from tiltflow.errors import InputError, check_seed
    from tiltflow.evaluation.row_scores import RowScorer, meaning
    from tiltflow.evaluation.scored_table import COLUMNS, ROW, Seen, held_out_scores, scored
    from tiltflow.model.loading import load_model
    from tiltflow.runs import RunStore
    from tiltflow.runs.row_tables import check_out, writing_rows

    store = RunStore.open(run)
    check_out(out, overwrite=overwrite)
    check_seed(seed)
    if dequantisations < 1:
        raise InputError(f"--dequantisations is {dequantisations}; expected at least 1")
    if id in (*COLUMNS, ROW):
        raise InputError(f"--id {id}: a column of the scores is called so; rename it in {data}")
    fitted = load_model(store.folder / "model")
    shape = fitted.model.backbone.data_shape
    columns, held_out = _of_run(store, fitted, tail=tail)
    how = {"key": key, **pictures_like(store, data)}
    texts = fitted.texts
    found = read_batches(data, fitted.width, columns=columns, kept=id, texts=texts, **how)
    withheld = _withheld(store, fitted)
    scorer, seen = RowScorer(fitted, draws=dequantisations, seed=seed), Seen()
    known = None if held_out is None else held_out_scores(scorer, held_out)
    told = meaning(fitted)
    began = time.monotonic()
    with Progress(quiet=json) as progress, writing_rows(out, {"log_p": f"log {told}"}) as table:
        for some in scored(
            scorer,
            (some._replace(values=fitted.kept(some.values)) for some in found.rows),
            seen,
            log_z=None if withheld else fitted.log_z.mean,
            held_out=known,
            names=found.columns or columns,
            shape=shape,
            kept=id,
            shown=lambda position, value: fitted.shown(position, value, texts),
        ):
            table.write(some)
            progress.tell("scores", "rows", rows=seen.rows, outliers=seen.outliers)
        if not seen.rows:
            raise InputError(f"{data} has no rows; expected some to score")
    facts: dict[str, Any] = {
        "run": str(store.path),
        "data": found.name,
        "scores": str(out),
        "rows": seen.rows,
        "outliers": {"rows": seen.outliers, "first": seen.first},
        "left_out": list(found.left_out),
        "log_p": {"of": told, "mean": None if withheld else seen.mean, "withheld": withheld},
        "log_z": fitted.log_z.to_dict(),
        "held_out": None if known is None else len(known),
        "seconds": round(time.monotonic() - began, 2),
    }
    if json:
        show_json(facts)
    else:
        show_scores(facts)
    return FAILED if withheld else 0


def _of_run(
    store: "RunStore", fitted: "FittedModel", *, tail: bool
) -> tuple[tuple[str, ...] | None, "np.ndarray | None"]:
    """The names of the columns that the run's model knows, and held-out rows."""
    from tiltflow.cli.run_data import columns_of, run_data
    from tiltflow.data import split
    from tiltflow.errors import InputError
    from tiltflow.evaluation.subsample import evenly

    if not tail:
        return columns_of(store, fitted), None
    try:
        own = run_data(store)
    except InputError as error:
        raise InputError(f"the data of {store.path}: {error}; or pass --no-tail") from None
    test = split(own).test
    some = test[evenly(min(len(test), MOST_HELD_OUT), len(test))]
    return fitted.columns or own.columns, own.take(some).values


def _withheld(store: "RunStore", fitted: "FittedModel") -> str | None:
    """Why log p is not known; None: it is."""
    if store.metrics().get("verdict", {}).get("status") == "failed":
        return "the verdict on the run is failed"
    return None if fitted.log_z.holds else f"log Z is not known: {fitted.log_z.words}"
