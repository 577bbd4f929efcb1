"""Compiled programs are kept in the user's cache folder, so that a second command starts faster.

`TILTFLOW_CACHE` names another folder; `off` keeps nothing. JAX's own `JAX_COMPILATION_CACHE_DIR`,
if set, is left as it is. A folder that is not ours, or cannot be written, is not used. Machine
code is of one kind of processor, so each has a folder of its own.
"""

import hashlib
import os
import platform
import warnings
from pathlib import Path

OFF = "off"
LARGEST = 1 << 30  # bytes; beyond it the programs that were written first are removed
SHORTEST = "0.2"  # seconds of compiling that are worth a file
PROCESSOR = ("flags", "Features", "model name")  # lines of /proc/cpuinfo


def keep_compiled() -> Path | None:
    """Tell JAX, before it is imported, where to keep what it compiles; returns the folder.

    None, and nothing is touched, where nothing is to be kept or nothing can be.
    """
    chosen = os.environ.get("TILTFLOW_CACHE", "")
    if chosen.lower() == OFF or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = (Path(chosen) if chosen else _users_cache() / "tiltflow") / _processor()
    if not _is_ours(folder):
        return None
    _make_room(folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", SHORTEST)
    # A damaged or unwritable entry costs a compilation, and is nothing that a user has to know.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    return folder


def _users_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _processor() -> str:
    """A name for this kind of processor: what code for it may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    told = sorted({line for line in lines if line.startswith(PROCESSOR)} or set(lines[:1]))
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
    return f"{platform.machine() or 'unknown'}-{digest}"


def _is_ours(folder: Path) -> bool:
    """Make the folder, for us alone; whether it belongs to us and can be written.

    What lies there is run, so nobody else may be able to put anything into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _make_room(folder: Path) -> None:
    """Remove the oldest files while there are more than `LARGEST` bytes."""
    try:
        files = sorted(
            (file.stat().st_mtime, file.stat().st_size, file) for file in folder.iterdir()
        )
        total = sum(size for _, size, _ in files)
        for _, size, file in files:
            if total <= LARGEST:
                return
            file.unlink(missing_ok=True)
            total -= size
    except OSError:  # another process was there first
        return
