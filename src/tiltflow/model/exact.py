"""Exact draws of a backbone on the host, part by part: one program, whatever their number.

Draws of an ensemble are dear to compile, more than to make. So programs that need some are handed
them, and chains whose proposals they are move on the host (`independent.py`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone, Density, Ensemble, Flow
from tiltflow.parallel.devices import map_in_parts, over_devices, over_devices_once
from tiltflow.parallel.keys import keys_of

IN_CACHE, ON_DEVICE = 512, 4_096  # rows at a time, of a processor and of an accelerator


class Exact(NamedTuple):
    """Exact draws.

    Attributes:
        u: `[number, *latent_shape]`.
        c: `[number, dim]`, their coordinates.
    """

    u: Float[np.ndarray, "number ..."]
    c: Float[np.ndarray, "number dim"]


def exact(backbone: Backbone, key: PRNGKeyArray, number: int) -> Exact:
    """So many of them.

    Of an ensemble each member is drawn from by a program of its own, which those of one structure
    share, and only as often as its weight has it.
    """
    if not isinstance(backbone, Ensemble):
        drawn = [_drawn(backbone, key) for key in keys_of(key, _parts(number))]
        return Exact(*(whole(some, number) for some in zip(*drawn, strict=True)))
    of_transport, *keys = keys_of(key, 2 + len(backbone.members))
    rng = np.random.default_rng(np.asarray(jr.bits(keys.pop(), (4,))))
    weights = np.exp(np.asarray(backbone.log_weights, np.float64))
    own, *counts = rng.multinomial(number, weights / weights.sum())
    made = [exact(backbone.transport, of_transport, own)] if own else []
    for member, key, count in zip(backbone.members, keys, counts, strict=True):
        if count:
            parts = [_draws(member, key) for key in keys_of(key, _parts(count))]
            c = whole(parts, count)
            made.append(Exact(_pulled(backbone.transport, c), c))
    order = rng.permutation(number)
    return Exact(*(np.concatenate(some)[order] for some in zip(*made, strict=True)))


def exact_points(backbone: Backbone, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
    """So many exact draws, as latent points."""
    if backbone.is_normal:
        return backbone.draws(key, number)
    return jnp.asarray(exact(backbone, key, number).u)


@over_devices
def push_in_parts(backbone: Backbone, u: Array, part: int = 1024) -> Float[Array, "N dim"]:
    """Coordinates of many latent points, in memory bounded by `part`."""
    return map_in_parts(backbone.coordinates, u, part)


def whole(parts: Sequence[Array], number: int) -> np.ndarray:
    """So many rows of what programs made of the parts."""
    return np.concatenate([np.asarray(part) for part in parts])[:number]


def _pulled(flow: Flow, c: np.ndarray) -> np.ndarray:
    """The latent points of many coordinates."""
    parts = [_inverse(flow, part) for part in in_parts(c)]
    return whole(parts, len(c))


def in_parts(rows: np.ndarray) -> Iterator[Array]:
    """Rows, so many at a time; the last are filled up."""
    size = at_a_time()
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        room = np.zeros((size - len(part), *rows.shape[1:]), rows.dtype)
        yield jnp.asarray(np.concatenate([part, room]))


def at_a_time() -> int:
    """Rows of one call of a program.

    On a processor what its cache holds: five flows of 64 columns say of four times as many rows in
    six times the seconds.
    """
    return IN_CACHE if jax.default_backend() == "cpu" else ON_DEVICE


def _parts(number: int) -> int:
    """Calls that so many rows take."""
    return -(-number // at_a_time())


@over_devices_once
def _drawn(backbone: Backbone, key: PRNGKeyArray) -> tuple[Array, Array]:
    return backbone.drawn(key, at_a_time())


@over_devices
def _draws(member: Density, key: PRNGKeyArray) -> Float[Array, "part dim"]:
    return member.draws(key, at_a_time())


@over_devices_once
def _inverse(flow: Flow, c: Float[Array, "part dim"]) -> Float[Array, "part ..."]:
    return jax.vmap(lambda c: flow.inverse(c)[0])(c)
