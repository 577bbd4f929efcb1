"""Archives of arrays (.npz): the one that is meant, its labels, and a set's own test rows."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tiltflow.data.limits import DEFLATE
from tiltflow.data.npy import Header, read_header, read_values, refuse_no_data, refuse_truncated
from tiltflow.data.source_contents import LABELS, Found
from tiltflow.errors import InputError

# What zipfile lets through: RuntimeError stands for encryption and unknown compression.
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RuntimeError,
    MemoryError,
)

_SUFFIX = ".npy"
_LABELS = {
    "x_train": "y_train",
    "x_test": "y_test",
    "X": "y",
    "x": "y",
    "data": "target",
    "images": "labels",
}
"""Which array of labels belongs to which array of data."""


def read_npz(path: Path, key: str | None) -> Found:
    """The array named `key` in a `.npz` file with its labels, or the one that must be meant.

    Without a key it is the only array; or `x_train` followed by `x_test`, whose rows then are
    the set's own test rows; or `X` beside labels `y`; or images stored as JPEG
    (`data/jpegs.py`).

    Raises:
        InputError: as `read_npy`; also several arrays and no key, or a key that is not there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(path, archive).find(key)
    except InputError:
        raise
    except _BAD_ZIP as error:
        raise InputError(
            f"{path} is not a whole .npz file ({error}); write it again with numpy.savez"
        ) from None


class _Archive:
    """The arrays of an open `.npz` file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        names = archive.namelist()
        self.names = [n.removesuffix(_SUFFIX) for n in names if n.endswith(_SUFFIX)]

    def find(self, key: str | None) -> Found:
        """See `read_npz`."""
        names = set(self.names)
        if key is None and {"jpeg_train", "offset_train"} <= names:
            from tiltflow.data.jpegs import stored_jpegs

            return stored_jpegs(self._path, self.numbers, self.labels, self.names)
        if key is None and {"x_train", "x_test"} <= names:
            return self._with_test_rows()
        name = self._chosen(key)
        array = self.data(name)
        labels = self._labels(name, len(array))
        return Found(self._path.name, self._where(name), array, labels=labels)

    def data(self, name: str) -> np.ndarray:
        """An array that is data."""
        return self._read(name, must_be_data=True)

    def numbers(self, name: str) -> np.ndarray:
        """An array of numbers of any shape."""
        return self._read(name, must_be_data=False)

    def labels(self, name: str, rows: int) -> np.ndarray | None:
        """The array `name`, if it is there and can be the labels of `rows` rows; words cannot."""
        if name not in self.names:
            return None
        header = self._header(name)
        if header.shape != (rows,) or header.dtype.kind not in LABELS:
            return None
        return self.numbers(name).astype(np.int64)

    def _with_test_rows(self) -> Found:
        train, test = self.data("x_train"), self.data("x_test")
        if train.shape[1:] != test.shape[1:]:
            raise InputError(
                f"{self._path} holds x_train {train.shape} and x_test {test.shape}; expected rows "
                f"of one shape: pass --key x_train"
            )
        parts = self._labels("x_train", len(train)), self._labels("x_test", len(test))
        known = [part for part in parts if part is not None]
        return Found(
            self._path.name,
            str(self._path),
            np.concatenate([train, test]),
            labels=np.concatenate(known) if len(known) == 2 else None,
            test_rows=len(test),
        )

    def _labels(self, name: str, rows: int) -> np.ndarray | None:
        return self.labels(_LABELS.get(name, ""), rows)

    def _chosen(self, key: str | None) -> str:
        names, path = self.names, self._path
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        if not names:
            raise InputError(f"{path} holds no arrays; write it again with numpy.savez")
        if key is not None:
            if key not in names:
                raise InputError(f"{path} has no array '{key}'; pass --key with one of: {listed}")
            return key
        if len(names) == 1:
            return names[0]
        for name, labels in _LABELS.items():
            if {name, labels} == set(names) and len(self._header(labels).shape) == 1:
                return name
        raise InputError(f"{path} holds {len(names)} arrays ({listed}); pass --key NAME")

    def _where(self, name: str) -> str:
        return f"{self._path}, array '{name}'"

    def _header(self, name: str) -> Header:
        with self._archive.open(name + _SUFFIX) as stream:
            return read_header(stream, self._where(name))

    def _read(self, name: str, *, must_be_data: bool) -> np.ndarray:
        info, where = self._archive.getinfo(name + _SUFFIX), self._where(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{where} is compressed by method {info.compress_type}; expected stored or "
                f"deflated: write it again with numpy.savez"
            )
        with self._archive.open(info) as stream:
            header = read_header(stream, where)
            if must_be_data:
                refuse_no_data(header, where)
            elif header.dtype.kind not in "biuf":
                raise InputError(f"{where} has dtype {header.dtype}; expected numbers")
            refuse_truncated(header, self._most(info, header), where)
            values = read_values(stream, header, where)
            stream.read(1)  # the end of the member, where its checksum is compared
        return values

    @staticmethod
    def _most(info: zipfile.ZipInfo, header: Header) -> int:
        """Bytes that the member can hold after its header, whatever it claims."""
        return min(info.file_size, DEFLATE * info.compress_size) - header.start
