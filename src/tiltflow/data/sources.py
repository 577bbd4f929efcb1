"""Where data come from: a known set by its name, a file in a known format, a folder of images."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.data.categories import Texts
from tiltflow.data.checks import enough, looked_at
from tiltflow.data.containers import plain
from tiltflow.data.dataset import Dataset
from tiltflow.data.idx import ENDING, read_idx
from tiltflow.data.image_checks import refuse_no_images, refuse_odd_images
from tiltflow.data.image_folder import read_image_folder
from tiltflow.data.kinds import CATEGORY, KEEP, are_apart, asked_kinds
from tiltflow.data.npy import Header, read_npy, refuse_no_data
from tiltflow.data.npz import read_npz
from tiltflow.data.parquet import read_parquet
from tiltflow.data.pixels import Channels
from tiltflow.data.public import SETS, read_public
from tiltflow.data.scan import scan
from tiltflow.data.source_contents import Found
from tiltflow.data.tables import read_table
from tiltflow.data.text import ENDINGS as TEXT
from tiltflow.errors import InputError

_READERS: dict[str, Callable[[Path, Texts], Found]] = {
    ".npy": lambda path, _: Found(path.name, str(path), read_npy(path)),
    **dict.fromkeys(TEXT, read_table),
    ".parquet": read_parquet,
}
ENDINGS = f".npz, {', '.join(_READERS)}, .idx or .idx.gz"
NAMES = ("digits", *SETS)


def load(
    source: str | Path | np.ndarray,
    *,
    key: str | None = None,
    integers: bool | None = None,
    images: bool = False,
    image_size: int | None = None,
    channels: Channels | None = None,
    columns: Mapping[str, str] | None = None,
    atoms: str = KEEP,
    to_score: bool = False,
    texts: Texts | None = None,
) -> Dataset:
    """Read a data set, or take an array, and check it.

    Args:
        source: an array, as those in files; or the name of a known set, `"digits"`
            (scikit-learn's 8x8 digits: 1,797 rows, values 0..16, with labels), `"mnist"`,
            `"fashion-mnist"` or `"cifar10"` (`data/public.py`); the path of a file, `.npy`,
            `.npz` and idx with `[rows, *event_shape]` in 2 to 4 axes, `.csv`, `.tsv` (or `.gz`
            and `.zst` of them) and `.parquet` with one example a row; or the path of a folder of
            images.
            What is called as a known set is reached as `./digits`, or as a `Path`.
        key: the name of the array in an `.npz`; not needed if there is only one.
        integers: whether the values are integers to be dequantised. By default they are if the
            array's type is boolean or integer, or if they are floats that happen to be integers
            with at most 256 distinct values; in either case only up to a magnitude of 65,536.
            Unless it is said, columns of other values that lie on a grid are found (`grids.py`),
            and dequantised likewise.
        images: whether the rows must be images of 8 bits; if they are not, they are refused.
        image_size: pictures of a folder are scaled and cut to squares of so many pixels a side.
        channels: `"grey"` or `"rgb"`: what pictures of a folder are converted to.
        columns: what columns of a table are, whatever they look like, by name (or number, from 0,
            where they have none): `"continuous"`, `"grid"`, `"grid:0.05"` or `"category"`. Columns
            of text with few values are categories without a word (`kinds.py`).
        atoms: `"separate"` sets values apart that many rows of a continuous column of a table
            share, such as zeros and caps: scores count their mass (`atoms.py`). `"keep"`: they are
            values as others, of which there is no density, as a verdict then says.
        to_score: whether a model that is there already is to score them, and nothing is to be
            learned: two rows are enough then, and a column may be constant.
        texts: the labels that such a model knows, by column.

    Raises:
        InputError: whatever is wrong with the source or with its content.
    """
    asked, apart = asked_kinds(columns), are_apart(atoms)
    texts = texts or texts_for(columns)
    found = read(source, key=key, image_size=image_size, channels=channels, texts=texts)
    enough(len(found.array), found.where, to_score=to_score)
    if found.array.ndim == 2:
        names = found.columns or [""] * found.array.shape[1]
        texts.refuse_unknown(found.array, names, found.where)
    if images:
        refuse_no_images(found.array, scan(found.array), found.where)
    values, integers, grid = looked_at(
        found.array,
        found.where,
        columns=found.columns,
        integers=True if images and integers is None else integers,
        constant=to_score,
        asked=asked,
        texts=found.texts,
        apart=apart,
    )
    return Dataset(
        found.name,
        values,
        integers,
        labels=found.labels,
        columns=found.columns,
        test_rows=found.test_rows,
        note=found.note,
        grid=grid,
    )


def read(
    source: str | Path | np.ndarray,
    *,
    key: str | None = None,
    image_size: int | None = None,
    channels: Channels | None = None,
    texts: Texts | None = None,
) -> Found:
    """Read a source as `load` does, but ask nothing of its values.

    `texts` are its columns of text; by default those that hold nothing else.

    Raises:
        InputError: whatever is wrong with the source.
    """
    texts = texts or Texts()
    if not isinstance(source, str | os.PathLike):
        array, columns = plain(source, "the array", texts)
        found = _array(array, key=key, image_size=image_size, channels=channels)
        labels = {} if columns is None else texts.finished(array, columns, "the array")
        return replace(found, columns=columns, texts=labels)
    path = Path(source)
    named = isinstance(source, str) and source in NAMES
    folder = os.path.isdir(path) and not named
    for option, value in (("image size", image_size), ("channels", channels)):
        if value is not None and not folder:
            raise InputError(
                f"{source} is no folder of images; leave out the {option} {value}, or name a folder"
            )
    if named:
        _refuse_key(key, str(source))
        return _digits() if str(source) == "digits" else read_public(str(source))
    if folder:
        _refuse_key(key, str(path))
        found = read_image_folder(path, image_size=image_size, channels=channels)
    else:
        found = _read_file(path, key, texts)
    refuse_odd_images(found.array, found.where)
    return found


def _array(array: np.ndarray, **options: Any) -> Found:
    """An array in memory."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"an array has no {name.replace('_', ' ')} {value}; leave it out")
    where = "the array"
    refuse_no_data(Header(array.shape, False, array.dtype, 0), where)
    refuse_odd_images(array, where)
    return Found("array", where, array)


def _digits() -> Found:
    """Images `[1797, 8, 8]` and labels `[1797]`."""
    import sklearn.datasets

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8)
    return Found("digits", "digits", images, labels=np.asarray(labels))


def texts_for(columns: Mapping[str, str] | None) -> Texts:
    """Where text is looked for before there is a model, with what somebody says of `columns`."""
    return Texts(asked=[n for n, kind in asked_kinds(columns).items() if kind.name == CATEGORY])


def _read_file(path: Path, key: str | None, texts: Texts) -> Found:
    reader = _reader(path)
    refuse_unreadable(path)
    if reader is None:
        return read_npz(path, key)
    _refuse_key(key, str(path))
    return reader(path, texts)


def _reader(path: Path) -> Callable[[Path, Texts], Found] | None:
    """What reads the file, by its name's ending; None for `.npz`, whose reader needs a key."""
    name = path.name.lower()
    if name.endswith(".npz"):
        return None
    if ENDING.search(name):
        return lambda path, _: read_idx(path)
    for ending, reader in _READERS.items():
        if name.endswith(ending):
            return reader
    if len(path.parts) == 1 and not path.suffix:
        raise InputError(
            f"unknown data set '{path}'; expected {', '.join(NAMES)}, a file ending in {ENDINGS}, "
            f"or a folder of images"
        )
    raise InputError(
        f"{path} has the unknown extension '{path.suffix}'; expected {ENDINGS}: convert the file"
    )


def refuse_unreadable(path: Path) -> None:
    """Raises InputError unless `path` is a regular file with something in it."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the path") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file; expected a file ending in {ENDINGS}")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); write it again")


def _refuse_key(key: str | None, where: str) -> None:
    if key is not None:
        raise InputError(f"{where} has no named arrays; leave out the key '{key}' (.npz only)")
