"""Elliptical slice moves: no gradient, no step size, a few evaluations each.

A density is written as N(m, C) exp(g). A point and a fresh draw of N(m, C) span an ellipse; on it,
angles are tried, in a bracket around the point that shrinks with each refusal, until g is above a
level drawn below the present one: Murray, Adams and MacKay 2010 (arXiv 1001.0175), figure 2. The
normal need only be somewhere near the density: g corrects the rest (Nishihara, Murray and Adams
2014, arXiv 1210.7477, section 2).

After so many refusals a point stays where it is. Refused angles would have been refused on the way
back as well, so the move remains reversible.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tiltflow.mcmc.batch import per_chain


class Moved(NamedTuple):
    """After a move.

    Attributes:
        position: `[chains, dim]`.
        value: g there, `[chains]`.
        is_accepted: whether the point moved, `[chains]`.
    """

    position: Float[Array, "chains dim"]
    value: Float[Array, " chains"]
    is_accepted: Bool[Array, " chains"]


def step(
    key: PRNGKeyArray,
    position: Float[Array, "chains dim"],
    value: Float[Array, " chains"],
    log_ratio: Callable[[Float[Array, "chains dim"]], Float[Array, " chains"]],
    middle: Float[Array, "chains dim"],
    whitener: Float[Array, "chains dim dim"],
    *,
    tries: int,
) -> Moved:
    """One move of every chain.

    Args:
        key: fresh for every move.
        position, value: the chains, and g there, in nats.
        log_ratio: g of rows. It is called `tries` times with one row a chain; rows of
            chains that have moved already are NaN, and what it returns for these is not looked at.
        middle: m, of each chain.
        whitener: the inverse of a factor of C, lower triangular, of each chain.
        tries: angles at most.
    """
    noise_key, level_key, angle_key, key = jax.random.split(key, 4)
    chains, dtype = len(position), position.dtype
    noise = jax.random.normal(noise_key, position.shape, dtype)
    noise = jax.vmap(lambda w, n: jax.scipy.linalg.solve_triangular(w, n, lower=True))(
        whitener, noise
    )
    away = position - middle
    level = value + jnp.log(jax.random.uniform(level_key, (chains,), dtype))
    angle = 2 * math.pi * jax.random.uniform(angle_key, (chains,), dtype)

    def attempt(index: Array, carry: tuple) -> tuple:
        at, found, done, angle, low, high = carry
        turned = jnp.cos(angle)[:, None] * away + jnp.sin(angle)[:, None] * noise
        new = jnp.where(per_chain(done, turned), jnp.nan, middle + turned)
        there = log_ratio(new)
        fine = ~done & (there > level) & jnp.isfinite(there)
        at = jnp.where(per_chain(fine, new), new, at)
        found, done = jnp.where(fine, there, found), done | fine
        low, high = jnp.where(angle < 0, angle, low), jnp.where(angle < 0, high, angle)
        share = jax.random.uniform(jax.random.fold_in(key, index), (chains,), dtype)
        return at, found, done, low + share * (high - low), low, high

    start = position, value, jnp.zeros(chains, bool), angle, angle - 2 * math.pi, angle
    at, found, done, *_ = jax.lax.fori_loop(0, tries, attempt, start)
    return Moved(at, found, done)
