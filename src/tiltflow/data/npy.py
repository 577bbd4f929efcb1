"""One array in NumPy's own format, read without trusting its header.

The header is compared with the bytes that are there before an array is made of it, so a header
that promises terabytes costs nothing; pickled objects are never opened.
"""

from __future__ import annotations

import io
import math
import os
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib import format as npy

from tiltflow.data import limits
from tiltflow.errors import InputError

LONGEST_HEADER = 10_000

# What NumPy's header parser lets through: it evaluates a Python literal, then builds a dtype.
_BAD_HEADER = (
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)


class Readable(Protocol):
    """A stream of bytes; all that a reader asks of a file or of a member of an archive."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


@dataclass(frozen=True)
class Header:
    """What a `.npy` header says: shape, Fortran order, dtype; `start` is where values begin."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int

    @property
    def bytes(self) -> int:
        """Of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> np.ndarray:
    """The array in a `.npy` file: `[rows, *event_shape]`, boolean, integer or floating.

    From `limits.MAPPED` bytes on it is a read-only `numpy.memmap`: rows are read by need.

    Raises:
        InputError: an unreadable, truncated or corrupt file; a dtype or shape that is no data.
    """
    where = str(path)
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            header = read_header(stream, where)
            refuse_no_data(header, where)
            refuse_truncated(header, size - header.start, where)
            if header.bytes < limits.MAPPED:
                return read_values(stream, header, where)
        order = "F" if header.fortran else "C"
        return np.memmap(path, header.dtype, "r", header.start, header.shape, order)
    except (OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file") from None


def read_header(stream: Readable, where: str) -> Header:
    """The header of a `.npy` stream, which is left at the first value.

    Raises:
        InputError: it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a Python 2 header, an old dtype name: both harmless
            return _header(stream)
    except _BAD_HEADER as error:
        raise InputError(
            f"{where} is not a whole .npy file ({error}); write it again with numpy.save"
        ) from None


def _header(stream: Readable) -> Header:
    start = stream.read(npy.MAGIC_LEN)
    version = npy.read_magic(io.BytesIO(start))
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format version {version}, expected (1, 0) or (2, 0)")
    parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    length = stream.read(2 * version[0])
    number = int.from_bytes(length, "little")
    if number > LONGEST_HEADER:
        raise ValueError(f"a header of {number:,} bytes, expected at most {LONGEST_HEADER:,}")
    text = stream.read(number)
    shape, fortran, dtype = parse(io.BytesIO(length + text))
    shape = tuple(int(size) for size in shape)
    return Header(shape, fortran, dtype, len(start) + len(length) + len(text))


def read_values(stream: Readable, header: Header, where: str) -> np.ndarray:
    """The array whose header has just been read.

    Raises:
        InputError: more values than fit into memory, or fewer than the header says.
    """
    limits.refuse_size(math.prod(header.shape), where)
    flat = np.empty(math.prod(header.shape), header.dtype)
    there = fill(stream, flat)
    refuse_truncated(header, there, where)
    if header.dtype.kind == "b":
        flat = flat.view(np.uint8) != 0
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def fill(stream: Readable, flat: np.ndarray) -> int:
    """Fill an array with one axis from a stream; how many bytes there were."""
    target, there = flat.view(np.uint8).data, 0
    while there < len(target):
        part = stream.read(min(2**20, len(target) - there))
        if not part:
            break
        target[there : there + len(part)] = part
        there += len(part)
    return there


def refuse_truncated(header: Header, present: int, where: str) -> None:
    """Raises InputError if fewer than the promised bytes are there."""
    if present < header.bytes:
        raise InputError(
            f"{where} is truncated: shape {header.shape} of {header.dtype} needs "
            f"{header.bytes:,} bytes and {present:,} are there; write it again"
        )


def refuse_no_data(header: Header, where: str) -> None:
    """Raises InputError for a dtype or a shape that is no data."""
    dtype, shape = header.dtype, header.shape
    if dtype.hasobject:
        raise InputError(
            f"{where} has dtype object: Python objects, or rows of different sizes; expected one "
            f"array of numbers: bring images to one size, convert it with "
            f"numpy.asarray(..., dtype=numpy.float32)"
        )
    if dtype.kind not in "biuf":
        raise InputError(
            f"{where} has dtype {dtype}; expected booleans, integers or floats: "
            f"convert it with numpy.asarray(..., dtype=numpy.float32)"
        )
    if len(shape) == 1:
        labels = " (labels are not data: name the array of the data)" if dtype.kind in "iu" else ""
        raise InputError(
            f"{where} has shape {shape}; expected [rows, columns]: reshape it to [N, 1]{labels}"
        )
    if not 2 <= len(shape) <= 4:
        raise InputError(
            f"{where} has shape {shape}; expected 2 to 4 axes, [rows, columns] up to "
            f"[rows, height, width, channels]: reshape it"
        )
    if min(shape) < 1:
        raise InputError(f"{where} has shape {shape}: no values; expected at least 1 on each axis")
