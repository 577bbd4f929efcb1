"""The idx format of MNIST and its kin: a magic number, sizes, then big-endian values."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from tiltflow.data import limits
from tiltflow.data.npy import Header, fill, refuse_no_data, refuse_truncated
from tiltflow.data.source_contents import Found, labels_for
from tiltflow.errors import InputError

ENDING = re.compile(r"[-.]idx\d?(-ubyte)?(\.gz)?$", re.IGNORECASE)
"""How the name of such a file ends, as in `train-images-idx3-ubyte.gz`."""

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> Found:
    """The array in an idx file, and its labels if their file lies beside it.

    Labels of `...-images-idx3-...` are looked for in `...-labels-idx1-...`.

    Raises:
        InputError: an unreadable, truncated or corrupt file; labels in place of data.
    """
    array = read_idx_array(path)
    refuse_no_data(Header(array.shape, False, array.dtype, 0), str(path))
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = read_idx_array(beside) if beside != path and beside.is_file() else None
    return Found(path.name, str(path), array, labels=labels_for(labels, len(array)))


def read_idx_array(path: Path) -> np.ndarray:
    """The array in an idx file, of any shape; raises InputError as `read_idx`."""
    where, size = str(path), os.path.getsize(path)
    zipped = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            magic = stream.read(4)
            if not _is_magic(magic):
                raise InputError(
                    f"{where} begins with {magic.hex(' ') or 'nothing'}; expected the magic number "
                    f"of an idx file, as 00 00 08 03: check the file"
                )
            sizes = stream.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise EOFError("the header ends early")
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
            header = Header(shape, False, np.dtype(_TYPES[magic[2]]), 4 + len(sizes))
            most = limits.DEFLATE * size if zipped else size
            refuse_truncated(header, most - header.start, where)
            limits.refuse_size(math.prod(shape), where)
            flat = np.empty(math.prod(shape), header.dtype)
            refuse_truncated(header, fill(stream, flat), where)
    except (OSError, EOFError, zlib.error, MemoryError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} is not a whole idx file ({error}); fetch it again") from None
    return flat.reshape(shape)


def _is_magic(magic: bytes) -> bool:
    """Two zeros, a type, and one to four axes."""
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES and 1 <= magic[3] <= 4
