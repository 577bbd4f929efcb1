"""The files of a run, read back; whatever is corrupt is one InputError that names the file."""

from __future__ import annotations

import json
import os
import stat
import tomllib
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from tiltflow.errors import InputError

LARGEST_TEXT = 2**24
"""Bytes of a configuration or of metrics."""
LARGEST_ARRAYS = 2**32
"""Bytes of all arrays in an archive."""

CORRUPT = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    NotImplementedError,
)
"""What a broken .npz lets through; `read_arrays` has the CRC checked before a header is parsed."""


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The whole file, of at most `most` bytes.

    Raises:
        InputError: it cannot be read, is larger, or is a pipe, a device or the like.
    """
    try:
        # Not to wait for ever where a pipe has been put in place of the file.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path} is not a regular file: write it anew")
            if most is not None and status.st_size > most:
                raise InputError(
                    f"{path} has {status.st_size:,} bytes; expected at most {most:,}: it is "
                    f"damaged, write it anew"
                )
            return stream.read()
    except (OSError, ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        words = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read ({words}): is the run complete?") from None


def refuse_outside(path: Path, folder: Path) -> None:
    """Raises InputError if `path` is a link to something outside `folder`."""
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} cannot be followed ({error}): write it anew") from None
    if not inside:
        raise InputError(
            f"{path} is a link to a file outside {folder}; expected the file itself: copy it there"
        )


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file."""
    try:
        return toml_table(read_bytes(path, LARGEST_TEXT).decode(), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not TOML ({error}): correct it, or write it anew") from None


def toml_table(text: str, where: str) -> dict[str, Any]:
    """The table in TOML text that came from `where`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not TOML ({error}): correct it, or write it anew") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return json_object(read_bytes(path, LARGEST_TEXT), str(path))


def json_object(text: bytes, where: str) -> dict[str, Any]:
    """The object in JSON text that came from `where`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}): correct it, or write it anew") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a JSON object: correct it, or write it anew")
    return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a `.npz` file by name; pickles are refused."""
    data = BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(data) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > LARGEST_ARRAYS:
                raise InputError(
                    f"{path} holds arrays of {size:,} bytes; expected at most {LARGEST_ARRAYS:,}: "
                    f"write fewer, or draws to a folder (`tiltflow sample --stream`)"
                )
            return {
                name.removesuffix(".npy"): npy.read_array(BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except InputError:
        raise
    except CORRUPT as error:
        raise InputError(f"{path} is not a whole .npz file ({error}): write it anew") from None
