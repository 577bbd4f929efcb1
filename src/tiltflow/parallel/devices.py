"""Work over all devices of all processes; nothing outside of compiled programs knows of it.

A program made with `over_devices` may `spread` an array: its leading axis (the rows of a batch,
particles, chains) is then divided among the devices, and XLA divides what is computed from it.
What the program returns is whole again, and back on the device that everything else is on. So a
checkpoint, a judgement or a figure is the same whoever has made the numbers, and each process has
all of them. Weights are whole on every device, and gradients are summed over all.

Random numbers do not depend on how an array is divided: one device and several give the same
numbers, but for the order in which sums are rounded. On one device nothing here does anything.

Several processes run the same program side by side, each with the same inputs (`processes.py`).
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tiltflow.errors import InputError
from tiltflow.parallel.ahead import compiled, is_ahead, wait_for

AXIS = "devices"
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
Tree = TypeVar("Tree")
Given = ParamSpec("Given")
Made = TypeVar("Made")


@cache
def mesh() -> Mesh:
    """All devices of all processes, in a row."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def spread(tree: Tree, axis: int = 0) -> Tree:
    """Inside of a program: divide `axis` of every array of `tree` among the devices.

    An array whose axis is no multiple of their number is whole on each, as are scalars.
    """
    return _placed(tree, lambda x: _divided(x, axis))


def together(tree: Tree) -> Tree:
    """Inside of a program: every array of `tree` whole on each device."""
    return _placed(tree, lambda x: PartitionSpec())


def map_in_parts(function: Callable[[Any], Made], rows: Any, size: int) -> Made:
    """`function` of each row: `size` at a time on each device, so that memory is bounded.

    Args:
        function: of one row.
        rows: a pytree of arrays with a common leading axis.
        size: rows that a device has at hand.
    """
    number, part = len(jax.tree.leaves(rows)[0]), size * jax.device_count()
    if number <= part:
        return jax.vmap(function)(spread(rows))
    if jax.device_count() == 1:
        return jax.lax.map(function, rows, batch_size=part)
    whole = number // part
    parts = jax.tree.map(lambda x: x[: whole * part].reshape(whole, part, *x.shape[1:]), rows)
    done = jax.lax.map(lambda part: spread(jax.vmap(function)(spread(part))), parts)
    done = jax.tree.map(lambda x: x.reshape(whole * part, *x.shape[2:]), done)
    if whole * part == number:
        return done
    rest = jax.vmap(function)(spread(jax.tree.map(lambda x: x[whole * part :], rows)))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, rest)


def over_devices_once(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """`over_devices` of a program that runs once or twice: compiled quickly, not well.

    Such as one that draws the first weights: compiling random numbers with all optimisations takes
    seconds for each shape, and drawing them takes milliseconds.
    """
    return _over_devices(function, compiler_options=QUICKLY)


def over_devices(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """`equinox.filter_jit` of a function in which arrays are spread.

    What it is given and what it returns are on the first device of this process. Inside of another
    such program it is a part of that one.

    Raises:
        InputError: (the program) the device's memory is too small for it.
    """
    return _over_devices(function)


def _over_devices(function: Callable[Given, Made], **how: Any) -> Callable[Given, Made]:
    """`over_devices`; `how` are arguments of `jax.jit`."""

    @wraps(function)
    def whole(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        return together(function(*args, **kwargs))

    program, part = eqx.filter_jit(whole, **how), eqx.filter_jit(whole)

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        traced = _is_traced((args, kwargs))
        if is_ahead() and not traced:
            stand_in: Made = compiled(program, part, args, kwargs)
            return stand_in
        wait_for(program)
        try:
            # As a part of another program it is compiled as that is.
            return _on_one((part if traced else program)(*args, **kwargs))
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if words := too_large(error):
                raise InputError(words) from None
            raise

    return call


def too_large(error: BaseException) -> str:
    """What to say if `error` is of a memory that is too small; else nothing."""
    words = str(error)
    if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in words):
        return ""
    asked = next((int(word) for word in words.split() if word.isdecimal()), 0)
    what = f"another {asked / 2**30:.1f} GiB" if asked else "more"
    return (
        f"the memory is too small for {what}: lower the number of particles or chains, or the "
        f"batch, or use more devices"
    )


def _placed(tree: Tree, spec: Callable[[jax.Array], PartitionSpec]) -> Tree:
    if jax.device_count() == 1:
        return tree
    arrays, rest = eqx.partition(tree, eqx.is_array)
    placed = jax.tree.map(
        lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec(x))), arrays
    )
    return eqx.combine(placed, rest)


def _divided(x: jax.Array, axis: int) -> PartitionSpec:
    if x.ndim <= axis or x.shape[axis] % jax.device_count():
        return PartitionSpec()
    return PartitionSpec(*[None] * axis, AXIS)


def _on_one(tree: Tree) -> Tree:
    """Arrays that are whole on each device as arrays on the first one alone."""
    if jax.device_count() == 1:
        return tree
    if _is_traced(tree):
        return tree  # a part of another program, which sees to it at its own end
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), arrays), rest)


def _is_traced(tree: Any) -> bool:
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))
