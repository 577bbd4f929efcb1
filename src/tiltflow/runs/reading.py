"""The files of a run, read back; whatever is corrupt is one InputError that names the file."""

from __future__ import annotations

import json
import tomllib
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from tiltflow.errors import InputError

# What a broken .npz lets through; archive.read has checked the CRC before a header is parsed.
_CORRUPT = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


def read_bytes(path: Path) -> bytes:
    """The whole file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): is the run complete?"
        ) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file."""
    try:
        return toml_table(read_bytes(path).decode(), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not TOML ({error}): correct it, or fit again") from None


def toml_table(text: str, where: str) -> dict[str, Any]:
    """The table in TOML text that came from `where`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not TOML ({error}): correct it, or fit again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return json_object(read_bytes(path), str(path))


def json_object(text: bytes, where: str) -> dict[str, Any]:
    """The object in JSON text that came from `where`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}): correct it, or fit again") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a JSON object: correct it, or fit again")
    return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a `.npz` file by name; pickles are refused."""
    data = BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(data) as archive:
            return {
                name.removesuffix(".npy"): npy.read_array(BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except _CORRUPT as error:
        raise InputError(f"{path} is not a whole .npz file ({error}): fit again") from None
