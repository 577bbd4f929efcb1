"""Files that are there whole or not at all.

Each function writes a temporary file beside the target, forces it to disk and renames it over
the target. Whatever happens in between, a reader finds the old content or the new.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from tiltflow.errors import InputError
from tiltflow.runs.encode import to_json, to_toml

_ADVICE = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
    errno.EPERM: "choose a folder that can be written",
    errno.ENOENT: "its folder is not there, or not any more; choose another folder",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`; raises InputError, the old file intact, if the disk refuses."""
    with replacing(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, its line ends as they are; raises as `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as `to_json` has it, indented by 2; raises as both."""
    write_text(path, to_json(value, indent=2) + "\n")


def write_toml(path: Path, table: Mapping[str, Any]) -> None:
    """Write `table` as `to_toml` has it; raises as both."""
    write_text(path, to_toml(table))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed `.npz`, as `numpy.savez_compressed` does, but never a pickle.

    Raises:
        InputError: as `write_bytes`.
        ValueError: an object array.
    """
    with replacing(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content replaces `path` when the block ends, unless it raises.

    Raises:
        InputError: as `write_bytes`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force renames inside `folder` to disk, where the system can (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that a killed process has left half written."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", name) is not None


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process has left anywhere in `folder`."""
    for entry in folder.rglob(".*.tmp"):
        if is_temporary(entry.name):
            entry.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "free some space or choose another folder")
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): {advice}"
        ) from None
