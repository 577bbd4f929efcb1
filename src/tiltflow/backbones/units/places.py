"""Where values lie in tables: how many of a column's increasing numbers are below them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def at_most(tables: Float[Array, "dim n"], x: Float[Array, " dim"]) -> Int[Array, " dim"]:
    """How many numbers of each row of `tables`, which increase, are at most its x.

    By halving. A comparison with each of them is vectorised badly on a processor: of 182 tables of
    256 numbers it took half of a flow's learning. It is a loop, whose result is there once: what is
    unrolled may be computed twice, rounded in two ways, and then the looked-up parts of a bin are
    those of two bins.
    """
    return _counted(tables, x, "right")


def less(tables: Float[Array, "dim n"], x: Float[Array, " dim"]) -> Int[Array, " dim"]:
    """How many numbers of each row of `tables`, which increase, are less than its x."""
    return _counted(tables, x, "left")


def _counted(tables: Array, x: Array, side: str) -> Array:
    def of(table: Array, x: Array) -> Array:
        return jnp.searchsorted(table, x, side=side, method="scan")

    return jax.vmap(of)(tables, x)
