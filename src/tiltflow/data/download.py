"""One file from its public home: checked, bounded, and there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tiltflow.errors import InputError

TIMEOUT = 30.0
"""Seconds without a byte after which a home counts as silent."""
PART = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """A file that never changes: its name, its size in bytes, and its SHA-256."""

    name: str
    bytes: int
    sha256: str


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether `path` holds the file, bit for bit."""
    try:
        if path.stat().st_size != file.bytes:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def download(url: str, file: RemoteFile, folder: Path, *, timeout: float = TIMEOUT) -> Path:
    """Fetch `url` to `folder / file.name`, made with its parents; returns that path.

    Raises:
        InputError: no answer, an answer that is not the file, or a disk that refuses; whatever
            lay at the path before is still there.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url} is no address; expected one that begins with https:// or http://")
    target = folder / file.name
    temporary = folder / f".{file.name}.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = temporary.open("xb")
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}): name another folder in the "
            f"environment variable TILTFLOW_DATA"
        ) from None
    try:
        with stream:
            _copy(url, file, stream, timeout)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{url} cannot be fetched ({_words(error)}): try again, or put the file to {target}"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _copy(url: str, file: RemoteFile, stream: BinaryIO, timeout: float) -> None:
    """Copy the answer into `stream`; raises InputError unless it is the file."""
    request = urllib.request.Request(url, headers={"User-Agent": "tiltflow"})
    digest, there = hashlib.sha256(), 0
    with urllib.request.urlopen(request, timeout=timeout) as answer, _Bar(file) as bar:
        while part := answer.read(PART):
            there += len(part)
            if there > file.bytes:
                raise InputError(f"{url} is longer than {file.bytes:,} bytes: not the file wanted")
            digest.update(part)
            stream.write(part)
            bar.tell(there)
    if there < file.bytes:
        raise InputError(
            f"{url} was cut off after {there:,} of {file.bytes:,} bytes: try the same again"
        )
    if digest.hexdigest() != file.sha256:
        raise InputError(
            f"{url} has SHA-256 {digest.hexdigest()[:12]}...; expected {file.sha256[:12]}...: it "
            f"is not the file that was published, and was thrown away"
        )


def _words(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError) and error.reason:
        error = error.reason if isinstance(error.reason, Exception) else error
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)


class _Bar:
    """Progress on standard error, if somebody looks at it."""

    def __init__(self, file: RemoteFile) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            console=Console(stderr=True, quiet=not sys.stderr.isatty()),
            transient=True,
        )
        self._task = self._progress.add_task(file.name, total=file.bytes)

    def tell(self, there: int) -> None:
        self._progress.update(self._task, completed=there)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
