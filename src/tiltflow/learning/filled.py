"""Rows in arrays of few sizes: a program is compiled for a size, and not for a number of rows.

An array has room for more rows than there are, and how many are meant is a traced number. What
lies behind them is evaluated only as far as the last part reaches, and counts for nothing. Random
numbers of a row depend on its place and not on the room, so that the room changes no result but
for the order in which sums are rounded.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from tiltflow.parallel.devices import spread

FEWEST = 1024  # rows that there is room for
SMALLEST_PART, LARGEST_PART = 128, 1024  # rows in hand at a time


def room(number: int) -> int:
    """The size for so many rows: multiples of 1,024, from 8,192 on four in each octave."""
    step = max(FEWEST, 2 ** (number.bit_length() - 3))
    return max(1, -(-number // step)) * step


def with_room(values: np.ndarray) -> np.ndarray:
    """`values` (`[rows, ...]`) as `[room, ...]`, zeros behind them."""
    full = np.zeros((room(len(values)), *values.shape[1:]), values.dtype)
    full[: len(values)] = values
    return full


class Filled(eqx.Module):
    """Arrays with a common leading axis, of which the first `count` rows are meant.

    Attributes:
        rows: one array `[room, ...]`, or a tuple of them.
        count: of the rows; a scalar.
    """

    rows: Any
    count: Int[Array, ""]

    def map(self, function: Callable[..., Any]) -> Any:
        """`function` of the arrays of each row, `[room, ...]`; behind the rows are any numbers.

        A part of them is in hand at a time, an eighth of the room or less, so that memory is
        bounded and hardly any time goes into what is not meant.
        """
        rows = self.rows if isinstance(self.rows, tuple) else (self.rows,)
        number = len(rows[0])
        part = min(number, max(SMALLEST_PART, min(number // 8, LARGEST_PART)))
        mapped = jax.vmap(function)

        def some(index: Array, made: Any) -> Any:
            first = index * part  # the last part of an odd size begins earlier, and overlaps
            cut = tuple(jax.lax.dynamic_slice_in_dim(x, first, part) for x in rows)
            return jax.tree.map(
                lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, first, 0),
                made,
                mapped(*spread(cut)),
            )

        one = jax.eval_shape(mapped, *(x[:part] for x in rows))
        nothing = jax.tree.map(lambda x: jnp.zeros((number, *x.shape[1:]), x.dtype), one)
        return jax.lax.fori_loop(0, (self.count + part - 1) // part, some, nothing)

    def mean(self, function: Callable[..., Any]) -> Any:
        """The mean over the rows of `function` of each, which returns numbers."""

        def mean(values: Array) -> Array:
            meant = jnp.arange(len(values)) < self.count
            return jnp.sum(jnp.where(meant, values, 0)) / self.count

        return jax.tree.map(mean, self.map(function))
