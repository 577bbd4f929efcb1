"""Images kept as JPEG bytes inside an archive: all bytes in one array, and where each begins."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tiltflow.data import limits
from tiltflow.data.pixels import pixels_of, require_pillow
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

LOSSY = (
    "decoded from JPEG, which has changed the pixels: its numbers cannot be compared with those of "
    "the original images"
)


def stored_jpegs(
    path: Path,
    array: Callable[[str], np.ndarray],
    labels_of: Callable[[str, int], np.ndarray | None],
    names: Sequence[str],
) -> Found:
    """The images of `jpeg_train` and, where it is there, `jpeg_test`, as the set's test rows.

    Args:
        path: of the archive.
        array: gives an array of the archive by its name: `jpeg_train` holds bytes, `offset_train`
            where image i begins (`[i]`) and ends (`[i + 1]`).
        labels_of: gives an array of labels, such as `y_train`, for so many rows, if it can.
        names: of all arrays.

    Returns:
        uint8, `[rows, height, width]` or `[rows, height, width, 3]`, with a note that says so.

    Raises:
        InputError: offsets that do not fit the bytes, damaged images, images of several sizes.
    """
    require_pillow(str(path))
    parts = [part for part in ("train", "test") if {f"jpeg_{part}", f"offset_{part}"} <= set(names)]
    images = [_decoded(path, array(f"jpeg_{p}"), array(f"offset_{p}"), p) for p in parts]
    if len({part.shape[1:] for part in images}) > 1:
        raise InputError(f"{path} holds training and test images of different sizes")
    labels = [labels_of(f"y_{p}", len(one)) for p, one in zip(parts, images, strict=True)]
    known = [one for one in labels if one is not None]
    return Found(
        path.name,
        str(path),
        np.concatenate(images),
        labels=np.concatenate(known) if len(known) == len(parts) else None,
        test_rows=len(images[1]) if len(images) > 1 else 0,
        note=LOSSY,
    )


def _decoded(path: Path, data: np.ndarray, offsets: np.ndarray, part: str) -> np.ndarray:
    where = f"{path}, array 'offset_{part}'"
    if data.dtype != np.uint8 or data.ndim != 1:
        raise InputError(f"{path}, array 'jpeg_{part}' is no row of bytes: write it again")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise InputError(f"{where} holds no positions of images: write it again")
    ends = offsets.astype(np.int64)
    if ends[0] < 0 or ends[-1] > len(data) or (np.diff(ends) <= 0).any():
        raise InputError(f"{where} does not rise from 0 to {len(data):,} bytes: write it again")
    images: np.ndarray | None = None
    for row, (start, end) in enumerate(pairwise(ends)):
        named = f"{path}, image {row} of 'jpeg_{part}'"
        image = pixels_of(io.BytesIO(data[start:end].tobytes()), named)
        if images is None:
            limits.refuse_size(image.size * (len(ends) - 1), str(path))
            images = np.empty((len(ends) - 1, *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise InputError(
                f"{named} has shape {image.shape}; expected {images.shape[1:]} as the first: bring "
                f"the images to one size"
            )
        images[row] = image
    assert images is not None  # there are two offsets at least
    return images
