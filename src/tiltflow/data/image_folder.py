"""A folder of pictures as one array; subfolders, where there are any, are labels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tiltflow.data import limits
from tiltflow.data.pixels import Channels, pixels_of, require_pillow
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
LARGEST_SIZE = 4096


def read_image_folder(
    folder: Path, *, image_size: int | None = None, channels: Channels | None = None
) -> Found:
    """The pictures in `folder`, or in its subfolders, in the order of their names.

    Args:
        folder: holds pictures, or one subfolder of pictures for each label; other files and
            hidden ones are left out.
        image_size: see `pixels_of`; None if all have one size already.
        channels: `"grey"` or `"rgb"`, to convert to; None if all are of one kind already.

    Returns:
        uint8, `[rows, height, width]` if grey, else `[rows, height, width, 3]`.

    Raises:
        InputError: no pictures; of several sizes or kinds; a damaged one.
    """
    if channels not in (None, "grey", "rgb"):
        raise InputError(f"channels {channels!r:.50}; expected grey or rgb")
    known = image_size is None or (type(image_size) is int and 1 <= image_size <= LARGEST_SIZE)
    if not known:
        raise InputError(
            f"the image size is {image_size!r:.50}; expected 1 to {LARGEST_SIZE:,} pixels a side"
        )
    paths, labels = _pictures(folder)
    require_pillow(str(folder))
    first = pixels_of(paths[0], str(paths[0]), image_size=image_size, channels=channels)
    limits.refuse_size(first.size * len(paths), str(folder))
    array = np.empty((len(paths), *first.shape), np.uint8)
    for row, path in enumerate(paths):
        image = pixels_of(path, str(path), image_size=image_size, channels=channels)
        if image.shape != first.shape:
            raise _unlike(paths[0], first, path, image)
        array[row] = image
    return Found(folder.name or str(folder), str(folder), array, labels=labels)


def _pictures(folder: Path) -> tuple[list[Path], np.ndarray | None]:
    """The paths of the pictures, and the numbers of their subfolders if they lie in such."""
    try:
        here = _in(folder)
        subfolders = sorted(
            Path(entry) for entry in os.scandir(folder)
            if entry.is_dir() and not entry.name.startswith(".")
        )  # fmt: skip
        inside = [_in(subfolder) for subfolder in subfolders]
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error}); check the folder") from None
    inside = [paths for paths in inside if paths]
    if here and inside:
        raise InputError(
            f"{folder} holds {len(here)} images beside subfolders of images; expected one or the "
            f"other: name the subfolder, or move the images"
        )
    if not here and not inside:
        raise InputError(
            f"{folder} is a folder without images; expected files ending in {', '.join(ENDINGS)}, "
            f"or the path of one file"
        )
    if here:
        return here, None
    numbers = np.repeat(np.arange(len(inside)), [len(paths) for paths in inside])
    return [path for paths in inside for path in paths], numbers


def _in(folder: Path) -> list[Path]:
    """The pictures that lie in `folder` itself."""
    return sorted(
        Path(entry)
        for entry in os.scandir(folder)
        if entry.is_file()
        and entry.name.lower().endswith(ENDINGS)
        and not entry.name.startswith(".")
    )


def _unlike(one: Path, first: np.ndarray, other: Path, image: np.ndarray) -> InputError:
    if first.ndim != image.ndim:
        return InputError(
            f"{one.name} is {_kind(first)} and {other.name} is {_kind(image)}; expected one kind: "
            f"pass --channels grey or --channels rgb"
        )
    return InputError(
        f"{one.name} has {_size(first)} pixels and {other.name} {_size(image)}; expected images of "
        f"one size: pass --image-size 32 to scale and crop them"
    )


def _kind(image: np.ndarray) -> str:
    return "grey" if image.ndim == 2 else "RGB"


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
