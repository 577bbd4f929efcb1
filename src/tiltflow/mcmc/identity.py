"""What makes two runs the same run, in a form that can be written down and compared.

Arrays stand as a digest of their bytes. How many draws are wanted, the chunks and the targets are
no part of it: they say when a run ends, not what it draws.
"""

import hashlib
from typing import Any

import equinox as eqx
import jax
import numpy as np

from tiltflow.errors import InputError
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.on_host import HostKernel

GENERATOR = 2
"""Another number where a version draws other random numbers from the same key."""


def identity(
    *, key: Any, kernel: Kernel | HostKernel, log_density: Any, position: Any, **settings: Any
) -> dict[str, Any]:
    """The run's inputs by name: plain values, and digests of arrays."""
    return {
        "key": _digest(jax.random.key_data(key)),
        "kernel": f"{type(kernel).__name__} {_digest((eqx.tree_pformat(kernel), kernel))}",
        "log_density": _digest(log_density),
        "start": _digest(position),
        "generator": GENERATOR,
        **settings,
    }


def check_same(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Raises InputError with the first entry in which the run in `where` is another one."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise InputError(
                f"{where} holds a run with another {name} ({found.get(name)!s:.40} there, "
                f"{value!s:.40} now): resume with the settings it was started with, or choose "
                f"another folder"
            )


def _digest(tree: Any) -> str:
    """Of the arrays, numbers and words of a pytree, with their places; functions do not count."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, str) or eqx.is_array_like(leaf):
            array = np.ascontiguousarray(leaf)
            total.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
            total.update(array.tobytes())
    return total.hexdigest()[:16]
