"""The folder of a density of the user's own: what is in it, and reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.errors import InputError
from tiltflow.runs.reading import CORRUPT, read_arrays, read_json

NUMBERS, DRAWS, PAGE, DENSITY = "posterior.json", "draws.npz", "report.html", "density.json"
CHECKPOINT, STATE = "checkpoint", "state.npz"
BESIDES = ("log_density", "mode")  # in draws.npz, beside the parameters


def is_posterior(folder: Path) -> bool:
    """Whether a folder holds a finished posterior."""
    return (folder / NUMBERS).is_file()


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a posterior, finished or not."""
    return is_posterior(folder) or (folder / CHECKPOINT / STATE).is_file()


def read_numbers(folder: Path) -> dict[str, Any]:
    """What `posterior.json` holds.

    Raises:
        InputError: it is missing or damaged.
    """
    told = read_json(folder / NUMBERS)
    try:
        parts = told["modes"], told["worst"], told["seconds"], told["verdict"]["status"]
        whole = all(part is not None for part in (*parts, float(told["log_z"]["mean"])))
    except CORRUPT as error:
        raise _broken(folder, error) from None
    if not whole:
        raise _broken(folder, ValueError())
    return told


def read_draws(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of `draws.npz`, by name, `[chains, draws, ...]`.

    Raises:
        InputError: it is missing or damaged.
    """
    arrays = read_arrays(folder / DRAWS)
    if not set(BESIDES) < set(arrays) or any(v.ndim < 2 for v in arrays.values()):
        raise _broken(folder, KeyError())
    return arrays


def columns_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A column `[chains * draws]` for each number of the parameters."""
    columns = {}
    for name, values in arrays.items():
        if name not in BESIDES:
            flat = values.reshape(values.shape[0] * values.shape[1], -1)
            for place, column in enumerate(flat.T):
                label = name if flat.shape[1] == 1 else f"{name}[{place}]"
                columns[label] = column.astype(np.float64)
    return columns


def _broken(folder: Path, error: BaseException) -> InputError:
    return InputError(
        f"{folder} holds no whole posterior ({type(error).__name__}); give a folder that "
        f"`tiltflow posterior` has written"
    )
