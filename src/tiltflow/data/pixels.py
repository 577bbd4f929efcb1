"""Pillow (the extra `images`) decodes one picture: only plain formats, only so many pixels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from tiltflow.errors import InputError

Channels = Literal["grey", "rgb"]

MOST_PIXELS = 2**26
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
_MODES = {"1": "grey", "L": "grey", "RGB": "rgb", "P": "rgb"}


def require_pillow(where: str) -> None:
    """Raises InputError if Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise InputError(
            f"{where} needs Pillow, which is not installed: pip install 'tiltflow[images]'"
        ) from None


def pixels_of(
    source: Path | BinaryIO,
    where: str,
    *,
    image_size: int | None = None,
    channels: Channels | None = None,
) -> np.ndarray:
    """The picture as uint8, `[height, width]` if grey, else `[height, width, 3]`.

    Args:
        source: a path, or the stream of a file.
        where: its name for messages.
        image_size: the shorter side is scaled to it, then the middle square is cut out; None to
            keep the size.
        channels: what to convert to; None to keep grey or RGB.

    Raises:
        InputError: damaged, another format, too many pixels, 16 bits or transparency.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _decoded(source, where, image_size, channels)
    except InputError:
        raise
    except Exception as error:  # a decoder raises whatever a damaged file makes it stumble over
        raise InputError(
            f"{where} is not a whole image ({error}); expected {', '.join(FORMATS)}"
        ) from None


def _decoded(
    source: Path | BinaryIO, where: str, image_size: int | None, channels: Channels | None
) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(source, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise InputError(
                f"{where} has {image.width} x {image.height} pixels; expected at most "
                f"{MOST_PIXELS:,}: scale it down"
            )
        if image_size is not None and image.format == "JPEG":
            image.draft(None, (2 * image_size, 2 * image_size))
        whole = ImageOps.exif_transpose(image)
        found = _MODES.get(whole.mode)
        transparent = "transparency" in whole.info or whole.mode in ("RGBA", "LA", "PA")
        if whole.mode.startswith(("I", "F")):
            raise InputError(
                f"{where} has more than 8 bits a pixel; expected 8: scale the pictures and save "
                f"them with 8 bits, or bring all of them as one array, [rows, height, width], in "
                f"a .npy file"
            )
        if channels is None and (found is None or transparent):
            what = "transparency" if transparent else f"Pillow's mode {whole.mode}"
            raise InputError(
                f"{where} has {what}; expected grey or RGB with 8 bits: say which to convert to, "
                f"--channels grey or --channels rgb"
            )
        if whole.mode in ("P", "PA"):
            whole = whole.convert("RGBA" if transparent else "RGB")
        whole = whole.convert("L" if (channels or found) == "grey" else "RGB")
        if image_size is not None:
            size = (image_size, image_size)
            whole = ImageOps.fit(whole, size, Image.Resampling.LANCZOS)
        return np.asarray(whole, np.uint8)
