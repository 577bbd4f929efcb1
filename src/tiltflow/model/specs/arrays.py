"""The arrays of a model, by name: those it needs, and those that a file holds."""

import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from tiltflow.errors import InputError, UnsoundModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.runs import reading

LONGEST_HEADER = 2**20  # bytes that say where each array is
WIDEST = 8  # bytes of a number that was saved by a process with 64 bits


def named_arrays(model: TiltedModel) -> dict[str, Any]:
    """Every array of a model, or of a skeleton, by its path, such as `"tilt.layers.0.weight"`."""
    leaves = jax.tree_util.tree_leaves_with_path(model)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
        if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    }


def plain_arrays(model: TiltedModel) -> dict[str, np.ndarray]:
    """`named_arrays` as a file takes them.

    Raises:
        InputError: there is one that it does not, such as a random key of a part of the user's own.
    """
    found = {}
    for name, leaf in named_arrays(model).items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or leaf.dtype.kind == "c":
            raise InputError(
                f"array {name!r} of the model is of type {leaf.dtype}, which no file of weights "
                f"holds; expected numbers: keep it out of the fields of your own part, or save its "
                f"arrays with equinox.tree_serialise_leaves"
            )
        found[name] = np.asarray(leaf)
    return found


def read_arrays(path: Path, skeleton: TiltedModel) -> tuple[dict[str, np.ndarray], str]:
    """The arrays in a file that may be no larger than `skeleton` needs, and its SHA-256.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    expected = named_arrays(skeleton)
    most = LONGEST_HEADER + sum(math.prod(leaf.shape) * WIDEST for leaf in expected.values())
    content = reading.read_bytes(path, most)
    try:
        return safetensors.numpy.load(content), sha256(content).hexdigest()
    except (safetensors.SafetensorError, ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path} is damaged ({error}): fit the model again") from None


def filled(skeleton: TiltedModel, arrays: dict[str, np.ndarray], path: Path) -> TiltedModel:
    """The skeleton, of arrays or of shapes only, with `arrays`, which come from `path`.

    They may have been saved with or without 64 bits: their types become those of the skeleton,
    which are this process's.
    """
    expected = named_arrays(skeleton)
    if set(arrays) != set(expected):
        odd = sorted(set(arrays) ^ set(expected))[0]
        raise InputError(
            f"{path} does not fit its config.json: array {odd!r} is in one of them only: fit again"
        )
    for name, leaf in expected.items():
        found = arrays[name]
        if found.shape != leaf.shape or found.dtype.kind != np.dtype(leaf.dtype).kind:
            raise InputError(
                f"{path}: array {name!r} is {found.dtype}{list(found.shape)}; expected "
                f"{leaf.dtype}{list(leaf.shape)}: fit the model again"
            )
        if not np.all(np.isfinite(found)):
            raise UnsoundModel(f"{path}: array {name!r} is not finite: fit the model again")
        are_indices = np.issubdtype(found.dtype, np.integer)
        if name.endswith(".order") and are_indices and not _are_permutations(found):
            raise InputError(f"{path}: array {name!r} holds no permutations: fit the model again")
    leaves = iter([jnp.asarray(arrays[n].astype(leaf.dtype)) for n, leaf in expected.items()])
    return jax.tree.map(
        lambda x: next(leaves) if isinstance(x, jax.Array | jax.ShapeDtypeStruct) else x,
        skeleton,
    )


def _are_permutations(rows: np.ndarray) -> bool:
    """Whether each row holds every index once: else g would be no bijection."""
    return bool(np.all(np.sort(rows, axis=-1) == np.arange(rows.shape[-1])))
