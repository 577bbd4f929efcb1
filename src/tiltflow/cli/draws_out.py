"""The file that `tiltflow sample` leaves: all arrays, a table in the data's columns, a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from tiltflow.model.fitted import FittedModel

ARRAYS, PICTURE = ".npz", ".png"
SHOWN = 64  # images on a sheet
MOST_DECIMALS = 6  # of a step
NEAR = 1e-5  # how far from a decimal a step may be found, as its share


def check_kind(out: Path, shape: tuple[int, ...]) -> None:
    """Raises InputError if draws of this shape cannot be written as `out` is called."""
    from tiltflow.errors import InputError

    images = len(shape) > 1
    if out.suffix == PICTURE and not images:
        raise InputError(
            f"--out {out}: the draws are rows of a table and no images; expected a name that ends "
            f"in .csv, .parquet or .npz"
        )
    if images and out.suffix not in (ARRAYS, PICTURE):
        raise InputError(
            f"--out {out}: the draws are arrays of shape {shape} and no rows of a table; expected "
            f"a name that ends in .npz or .png"
        )


def write_draws(
    out: Path,
    fitted: "FittedModel",
    x: "np.ndarray",
    latent: Any,
    *,
    thin: int,
    columns: tuple[str, ...] | None,
) -> None:
    """Write draws x (`[chains, draws, *data_shape]`), and what is known of them, by `out`'s ending.

    A table has the data's own columns, the draws of one chain after those of another, with the
    labels of categories; those that were left out as functions of others are computed. Arrays have
    labels of text beside their numbers in x, as `labels_NAME` (`[chains, draws]`). A picture has
    the last draws of the chains.

    Raises:
        InputError: the disk refuses.
    """
    import numpy as np

    from tiltflow.runs import atomic

    if fitted.dropped is not None:
        x, columns = fitted.dropped.whole(np.asarray(x)), fitted.dropped.columns
    if out.suffix == ARRAYS:
        arrays = {
            "x": x,
            "u": np.asarray(latent.positions),
            "f": latent.summaries["f"],
            "thin": np.asarray(thin),
        }
        if columns is not None:
            arrays["columns"] = np.asarray(columns)
        arrays |= _labels(fitted, x)
        atomic.write_arrays(out, arrays)
    elif out.suffix == PICTURE:
        _write_picture(out, x)
    else:
        _write_table(out, fitted, x, columns)


def _labels(fitted: "FittedModel", x: "np.ndarray") -> dict[str, "np.ndarray"]:
    """The labels of categories of text, by the names of their arrays."""
    import numpy as np

    levels = {} if fitted.grid is None else fitted.grid.levels
    return {
        f"labels_{fitted.name(i)}": np.asarray(one.labels)[np.asarray(x[..., i], np.int64)]
        for i, one in levels.items()
        if one.are_text
    }


def _write_table(
    out: Path, fitted: "FittedModel", x: "np.ndarray", columns: tuple[str, ...] | None
) -> None:
    import numpy as np

    from tiltflow.runs.row_tables import writing_rows

    width = x.shape[-1]
    names = columns or tuple(f"column_{place}" for place in range(width))
    at = range(width) if fitted.dropped is None else fitted.dropped.kept  # of the model's columns
    steps, levels = np.zeros(width), {}
    if fitted.grid is not None:
        steps[list(at)] = fitted.grid.step
        levels = {at[i]: one for i, one in fitted.grid.levels.items()}
    with writing_rows(out) as table:
        for chain in x:
            values = np.asarray(chain).reshape(-1, width)
            if fitted.integers:
                values = values.astype(np.int64)
            table.write(
                {
                    name: levels[i].labelled(values[:, i])
                    if i in levels
                    else _tidy(values[:, i], float(steps[i]))
                    for i, name in enumerate(names)
                }
            )


def _tidy(column: "np.ndarray", step: float) -> "np.ndarray":
    """Values on a grid of a decimal step, such as 0.05, with its decimals; others as they are."""
    import numpy as np

    for decimals in range(MOST_DECIMALS + 1):
        scaled = step * 10**decimals
        if scaled > 0.5 and abs(scaled - round(scaled)) < NEAR * scaled:
            rounded = np.round(column.astype(np.float64), decimals)
            return rounded if np.all(np.abs(rounded - column) < 0.1 * step) else column
    return column


def _write_picture(out: Path, x: "np.ndarray") -> None:
    import numpy as np

    from tiltflow.evaluation.subsample import evenly
    from tiltflow.report import palette
    from tiltflow.report.gallery import Sheet, gallery, write_gallery

    chains = len(x)
    last = -(-min(SHOWN, x.shape[0] * x.shape[1]) // chains)  # draws of each chain
    images = np.asarray(x[:, evenly(last, x.shape[1])]).reshape(-1, *x.shape[2:])
    some = images[evenly(min(SHOWN, len(images)), len(images))]
    write_gallery(out, gallery([Sheet("Draws of the tilted model", palette.TILTED, some)]))
