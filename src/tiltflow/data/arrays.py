"""NumPy's .npy and .npz files, read without trusting them.

The header is compared with the bytes that are there before an array is made of it, so a header
that promises terabytes costs nothing; pickled objects are never opened.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from tiltflow.errors import InputError

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

# What zipfile lets through: RuntimeError stands for encryption and unknown compression.
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RuntimeError,
    MemoryError,
)

_SUFFIX = ".npy"


def read_npy(path: Path) -> np.ndarray:
    """The array in a `.npy` file: `[rows, *event_shape]`, boolean, integer or floating.

    Raises:
        InputError: an unreadable, truncated or corrupt file; a dtype or shape that is no data.
    """
    try:
        data = path.read_bytes()
    except (OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file") from None
    return _decode(data, str(path))


def read_npz(path: Path, key: str | None) -> np.ndarray:
    """The array named `key` in a `.npz` file, or its only array if `key` is None.

    Raises:
        InputError: as `read_npy`; also several arrays and no key, or a key that is not there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(_SUFFIX) for n in archive.namelist() if n.endswith(_SUFFIX)]
            name = _choose(names, key, path)
            data = archive.read(name + _SUFFIX)
    except InputError:
        raise
    except _BAD_ZIP as error:
        raise InputError(
            f"{path} is not a whole .npz file ({error}); write it again with numpy.savez"
        ) from None
    return _decode(data, f"{path}, array '{name}'")


def _choose(names: list[str], key: str | None, path: Path) -> str:
    listed = ", ".join(names)
    if not names:
        raise InputError(f"{path} holds no arrays; write it again with numpy.savez")
    if key is None and len(names) > 1:
        raise InputError(f"{path} holds {len(names)} arrays ({listed}); pass --key NAME")
    if key is not None and key not in names:
        raise InputError(f"{path} has no array '{key}'; pass --key with one of: {listed}")
    return names[0] if key is None else key


def _decode(data: bytes, where: str) -> np.ndarray:
    """The array in the bytes of a `.npy` file, as a read-only view of them."""
    stream = io.BytesIO(data)
    try:
        shape, fortran, dtype = _header(stream)
    except _BAD_HEADER as error:
        raise InputError(
            f"{where} is not a whole .npy file ({error}); write it again with numpy.save"
        ) from None
    _refuse_dtype(dtype, where)
    _refuse_shape(shape, where)
    needed, present = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if present < needed:
        raise InputError(
            f"{where} is truncated: shape {shape} of {dtype} needs {needed:,} bytes and "
            f"{present:,} are there; write it again with numpy.save"
        )
    return np.ndarray(shape, dtype, data, stream.tell(), order="F" if fortran else "C")


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype; leaves the stream at the first value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a Python 2 header, an old dtype name: both harmless
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(stream)
        else:
            raise ValueError(f"format version {version}, expected (1, 0) or (2, 0)")
    return tuple(int(length) for length in shape), fortran, dtype


def _refuse_dtype(dtype: np.dtype, where: str) -> None:
    if dtype.kind not in "biuf":
        raise InputError(
            f"{where} has dtype {dtype}; expected booleans, integers or floats: "
            f"convert it with numpy.asarray(..., dtype=numpy.float32)"
        )


def _refuse_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) == 1:
        raise InputError(
            f"{where} has shape {shape}; expected [rows, columns]: reshape it to [N, 1]"
        )
    if not 2 <= len(shape) <= 4:
        raise InputError(
            f"{where} has shape {shape}; expected 2 to 4 axes, [rows, columns] up to "
            f"[rows, height, width, channels]: reshape it"
        )
    if min(shape) < 1:
        raise InputError(f"{where} has shape {shape}: no values; expected at least 1 on each axis")
