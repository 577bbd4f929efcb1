"""Where data come from: the embedded digits, or one .npy, .npz or .csv file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from tiltflow.data.arrays import read_npy, read_npz
from tiltflow.data.checks import checked
from tiltflow.data.dataset import Dataset
from tiltflow.data.tables import read_csv
from tiltflow.errors import InputError

KNOWN = (".npy", ".npz", ".csv", ".csv.gz")
ENDINGS = ", ".join(KNOWN)


def load(source: str | Path, *, key: str | None = None, integers: bool | None = None) -> Dataset:
    """Read and check a data set.

    Args:
        source: `"digits"` (scikit-learn's 8x8 digits: 1,797 rows, values 0..16, with labels), or
            the path of a file: `.npy` and `.npz` hold `[rows, *event_shape]` with 2 to 4 axes,
            `.csv` and `.csv.gz` hold numbers separated by commas under an optional header. A file
            that is called `digits` is reached as `./digits.npy`.
        key: the name of the array in an `.npz`; not needed if there is only one.
        integers: whether the values are integers to be dequantised. By default they are if the
            array's type is boolean or integer, or if they are floats that happen to be integers
            with at most 256 distinct values; in either case only up to a magnitude of 65,536.

    Raises:
        InputError: whatever is wrong with the source or with its content.
    """
    if str(source) == "digits":
        _refuse_key(key, "digits")
        images, labels = _digits()
        values, integers = checked(images, "digits", integers=integers)
        return Dataset("digits", values, integers, labels=labels)
    path = Path(source)
    array, columns = _read(path, key)
    values, integers = checked(array, str(path), columns=columns, integers=integers)
    return Dataset(path.name, values, integers, columns=columns)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images `[1797, 8, 8]` and labels `[1797]`."""
    import sklearn.datasets

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    return pixels.reshape(-1, 8, 8), labels


def _read(path: Path, key: str | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The array in a file, and the names of its columns if it has them."""
    kind = _kind(path)
    _refuse_unreadable(path)
    if kind == ".npz":
        return read_npz(path, key), None
    _refuse_key(key, str(path))
    return (read_npy(path), None) if kind == ".npy" else read_csv(path)


def _kind(path: Path) -> str:
    """Which of `KNOWN` the path ends in."""
    for kind in KNOWN:
        if path.name.lower().endswith(kind):
            return kind
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; expected a file ending in {ENDINGS}")
    if len(path.parts) == 1 and not path.suffix:
        raise InputError(
            f"unknown data set '{path}'; expected digits, or a file ending in {ENDINGS}"
        )
    raise InputError(
        f"{path} has the unknown extension '{path.suffix}'; expected {ENDINGS}: convert the file"
    )


def _refuse_unreadable(path: Path) -> None:
    """Raises InputError unless `path` is a regular file with something in it."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the path") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputError(f"{path} is {kind}; expected a file ending in {ENDINGS}")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); write it again")


def _refuse_key(key: str | None, where: str) -> None:
    if key is not None:
        raise InputError(f"{where} has no named arrays; leave out the key '{key}' (.npz only)")
