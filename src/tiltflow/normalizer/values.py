"""Values of f as they come in: finite float64 arrays of the right rank, or an error.

At draws of q f may be -inf, where p has no mass: exp(f) is 0 there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import InputError

Values = NDArray[np.float64]
NOTHING = 745.0  # nats below all others: exp of it is 0 beside them


def finite_values(name: str, values: ArrayLike, axes: tuple[str, ...], least: int = 2) -> Values:
    """`values` in float64, checked.

    Args:
        name: what the caller calls the array, for messages.
        values: numbers, one axis for each of `axes`.
        axes: the names of the axes, such as `("chains", "draws")`.
        least: the fewest numbers that make sense.

    Raises:
        InputError: another number of axes, too few values, values that are not numbers,
            or values that are not finite (how many, and the index of the first).
    """
    expected = f"[{', '.join(axes)}]"
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must hold numbers, shaped {expected}: {error}") from None
    if array.ndim != len(axes):
        hint = "; independent draws go in as [:, None]" if axes == ("chains", "draws") else ""
        raise InputError(f"{name} has shape {array.shape}, expected {expected}{hint}")
    if array.size < least:
        raise InputError(f"{name} has {array.size} values, at least {least} are needed")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        first = ", ".join(str(index) for index in bad[0])
        raise InputError(
            f"{name} has {len(bad)} of {array.size} values that are not finite, the first,"
            f" {array[tuple(bad[0])]}, at [{first}]: look for overflow in the tilt there"
        )
    return array


def over_q(values: ArrayLike) -> Values:
    """f at draws of q, `[n]`, finite: where it is -inf, so far below the others that exp(f) is 0.

    Raises:
        InputError: as `finite_values`; or -inf at all of them.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return finite_values("f_q", values, ("n",))  # says what is wrong
    outside = np.isneginf(array)
    if not outside.any():
        return finite_values("f_q", array, ("n",))
    inside = array[np.isfinite(array)]
    if not len(inside):
        raise InputError(
            f"f_q is -inf at all {array.size} draws of q; expected some where exp(f) is positive: "
            f"the backbone does not reach the model"
        )
    return finite_values("f_q", np.where(outside, inside.min() - NOTHING, array), ("n",))
