"""Exact draws of a backbone on the host, part by part: one program, whatever their number.

Draws of an ensemble are dear to compile, more than to make. So programs that need some are handed
them, and chains whose proposals they are move on the host: a transition compares two numbers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones import Backbone, Density, Ensemble, Flow
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Tuning
from tiltflow.mcmc.point import Point
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import map_in_parts, over_devices, over_devices_once
from tiltflow.tilts import ReadsCoordinates

PART = 2_048  # draws at a time


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
        drawn = [_drawn(backbone, key) for key in jr.split(key, -(-number // PART))]
        return Exact(*(_together(some, number) for some in zip(*drawn, strict=True)))
    of_transport, *keys = jr.split(key, 2 + len(backbone.members))
    rng = np.random.default_rng(np.asarray(jr.bits(keys.pop(), (4,))))
    weights = np.exp(np.asarray(backbone.log_weights, np.float64))
    own, *counts = rng.multinomial(number, weights / weights.sum())
    made = [exact(backbone.transport, of_transport, own)] if own else []
    for member, key, count in zip(backbone.members, keys, counts, strict=True):
        if count:
            parts = [_draws(member, key) for key in jr.split(key, -(-count // PART))]
            c = _together(parts, count)
            made.append(Exact(_pulled(backbone.transport, c), c))
    order = rng.permutation(number)
    return Exact(*(np.concatenate(some)[order] for some in zip(*made, strict=True)))


def exact_points(backbone: Backbone, key: PRNGKeyArray, number: int) -> Float[Array, "number ..."]:
    """So many exact draws, as latent points."""
    if backbone.is_normal:
        return backbone.draws(key, number)
    return jnp.asarray(exact(backbone, key, number).u)


def f_of(
    tilt: ReadsCoordinates, c: Float[np.ndarray, "number dim"]
) -> Float[np.ndarray, " number"]:
    """f at many coordinates."""
    return _together([_f_of_part(tilt, part) for part in _parts(c)], len(c))


def independent_chains(
    model: TiltedModel,
    key: PRNGKeyArray,
    *,
    chains: int,
    draws: int,
    warmup: int = 0,
    former: Draws | None = None,
) -> Draws:
    """Chains whose every proposal is an exact draw of the backbone, accepted on what f adds.

    `mcmc.independence` on the host; there is nothing to adapt, and no gradient. Log-densities, and
    energies, are over those of the backbone.

    Args:
        model: to sample; its log-density over that of exact draws is f.
        key: random key.
        chains, draws, warmup: transitions of warm-up are left out.
        former: draws of the same chains, which go on; they have no warm-up.
    """
    steps = warmup + draws
    draw_key, accept_key = jr.split(key)
    made = exact(model.backbone, draw_key, chains * steps)
    shape = (chains, steps)
    f = f_of(model.tilt, made.c).astype(np.float64).reshape(shape)
    u = made.u.reshape(*shape, *made.u.shape[1:])
    if former is not None:
        assert former.positions is not None
        u = np.concatenate([former.positions[:, -1:], u], axis=1)
        f = np.concatenate([former.summaries["f"][:, -1:], f], axis=1)
    uniform = np.random.default_rng(np.asarray(jr.bits(accept_key, (4,)))).random(f.shape)
    at, probability = _accepted(f, uniform)
    first, row = warmup if former is None else 1, np.arange(chains)[:, None]
    at, probability = at[:, first:], probability[:, first:]
    positions, f = u[row, at], f[row, at]
    norm = _squares(positions.reshape(-1, *u.shape[2:])).reshape(f.shape)
    one = jnp.ones(())
    return Draws(
        positions=positions,
        summaries={"f": f.astype(np.float32), "norm": norm.astype(np.float32)},
        energies=-f,
        divergent=np.zeros(f.shape, bool),
        replicas=None,
        moments=None,
        acceptance=float(probability.mean()),
        divergences=0,
        transitions=draws,
        gradients=0,
        tuning=Tuning(one, one),
        final=Point(jnp.asarray(positions[:, -1]), jnp.asarray(f[:, -1])),
        seconds=0.0,
        stopped="draws",
        target=None,
        is_biased=False,
    )


def _accepted(
    f: Float[np.ndarray, "chains steps"], uniform: Float[np.ndarray, "chains steps"]
) -> tuple[np.ndarray, np.ndarray]:
    """Which proposal each chain is at after each step, and the probability of each acceptance.

    A proposal whose f is not finite is never accepted; the first is where a chain starts.
    """
    chains, steps = f.shape
    at, probability = np.zeros(f.shape, int), np.ones(f.shape)
    row, now = np.arange(chains), np.zeros(chains, int)
    for step in range(1, steps):
        rise = f[:, step] - f[row, now]
        probability[:, step] = np.where(np.isfinite(rise), np.exp(np.minimum(rise, 0.0)), 0.0)
        now = np.where(uniform[:, step] < probability[:, step], step, now)
        at[:, step] = now
    return at, probability


def _squares(u: np.ndarray) -> np.ndarray:
    return np.sum(u.reshape(len(u), -1).astype(np.float64) ** 2, axis=1)


@over_devices
def push_in_parts(backbone: Backbone, u: Array, part: int = 1024) -> Float[Array, "N dim"]:
    """Coordinates of many latent points, in memory bounded by `part`."""
    return map_in_parts(backbone.coordinates, u, part)


def _together(parts: Sequence[Array], number: int) -> np.ndarray:
    return np.concatenate([np.asarray(part) for part in parts])[:number]


def _pulled(flow: Flow, c: np.ndarray) -> np.ndarray:
    """The latent points of many coordinates."""
    parts = [_inverse(flow, part) for part in _parts(c)]
    return _together(parts, len(c))


def _parts(rows: np.ndarray) -> Iterator[Array]:
    """Rows, so many at a time; the last are filled up."""
    for first in range(0, len(rows), PART):
        part = rows[first : first + PART]
        room = np.zeros((PART - len(part), *rows.shape[1:]), rows.dtype)
        yield jnp.asarray(np.concatenate([part, room]))


@over_devices_once
def _drawn(backbone: Backbone, key: PRNGKeyArray) -> tuple[Array, Array]:
    return backbone.drawn(key, PART)


@over_devices
def _draws(member: Density, key: PRNGKeyArray) -> Float[Array, "part dim"]:
    return member.draws(key, PART)


@over_devices_once
def _inverse(flow: Flow, c: Float[Array, "part dim"]) -> Float[Array, "part ..."]:
    return jax.vmap(lambda c: flow.inverse(c)[0])(c)


@over_devices
def _f_of_part(tilt: ReadsCoordinates, c: Float[Array, "part dim"]) -> Float[Array, " part"]:
    return jax.vmap(tilt)(c) + jnp.zeros(len(c))
