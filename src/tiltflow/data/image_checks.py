"""Whether an array holds images as a model of images needs them: integers from 0 to 255."""

from __future__ import annotations

import numpy as np

from tiltflow.data.checks import place
from tiltflow.data.scan import Scan
from tiltflow.errors import InputError

CHANNELS = (1, 3, 4)
EXPECTED = "expected [rows, height, width] or [rows, height, width, channels]"


def refuse_odd_images(array: np.ndarray, where: str) -> None:
    """Raises InputError for an array that is one image, or has its channels first.

    These are refused whatever the model, because rows or columns would be mistaken.
    """
    shape = array.shape
    if array.ndim == 3 and array.dtype == np.uint8 and shape[2] in (3, 4) and shape[1] >= 8:
        raise InputError(
            f"{where} has shape {shape}: one image of {shape[1]} x {shape[0]} pixels; {EXPECTED}: "
            f"stack many images along a first axis"
        )
    if array.ndim == 4 and shape[0] == 1:
        raise InputError(f"{where} has shape {shape}: one image; {EXPECTED}: bring more images")
    if array.ndim == 4 and shape[1] in CHANNELS and shape[3] not in CHANNELS:
        raise InputError(
            f"{where} has shape {shape}: channels come first; {EXPECTED}: transpose it with "
            f"x.transpose(0, 2, 3, 1)"
        )


def refuse_no_images(array: np.ndarray, seen: Scan, where: str) -> None:
    """Raises InputError unless `array`, of which `seen` tells, holds images of 8 bits.

    That is `[rows, height, width]` or `[rows, height, width, channels]` with 1, 3 or 4 channels
    and integers from 0 to 255, of whatever type.
    """
    shape = array.shape
    if array.ndim < 3:
        kind = "labels" if shape[1] == 1 and array.dtype.kind in "iu" else "a table"
        raise InputError(f"{where} has shape {shape}: {kind} in place of images; {EXPECTED}")
    if array.ndim == 4 and shape[3] not in CHANNELS:
        raise InputError(f"{where} has {shape[3]} channels; expected 1, 3 or 4; {EXPECTED}")
    if seen.bad is not None:
        raise InputError(
            f"{where} has NaN or infinite values, first at {place(seen.bad, None)}; expected "
            f"integers from 0 to 255"
        )
    low, high = float(seen.low.min()), float(seen.high.max())
    if seen.fractional is not None or low < 0 or high > 255:
        if seen.fractional is not None and low >= 0 and high <= 1:
            advice = "multiply by 255 and round: (255 * x).round().astype('uint8')"
        elif seen.fractional is not None:
            advice = "undo their scaling, and save them as uint8"
        else:
            advice = "scale them to 8 bits, and save them as uint8"
        raise InputError(
            f"{where} holds {array.dtype} from {low:g} to {high:g}; expected integers from 0 to "
            f"255: {advice}"
        )
