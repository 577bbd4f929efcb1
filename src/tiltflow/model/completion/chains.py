"""Gaps filled by chains, those of many rows side by side, where resampling does not do."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tiltflow.diagnostics.convergence import convergence
from tiltflow.mcmc.draws import over_chains
from tiltflow.mcmc.hamiltonian import HMC
from tiltflow.mcmc.isir import ISIR
from tiltflow.mcmc.length import FixedLength
from tiltflow.mcmc.mixture import Mixture as Alternating
from tiltflow.mcmc.run import sample
from tiltflow.model.completion.conditional import Conditional
from tiltflow.model.completion.rough import Mixture, given, moments
from tiltflow.model.completion.rows import Seen
from tiltflow.model.tilted import TiltedModel

ROWS = 16  # side by side, at most
CHAINS = 16  # of each
KEPT, WARMUP = 100, 150  # transitions of a chain
LENGTH = 3.0  # of the longest trajectory, in units in which all is nearly N(0, I)
STEP = 0.3  # the first
STARTS = 8  # draws that compete for the place where a chain starts
JUMPS = 8  # draws that compete in a jump
CHUNK = 50


class Drawn(NamedTuple):
    """Draws of each row.

    Attributes:
        w: `[rows, draws, dim]`, columns; NaN where the model has no density.
        rhat: `[rows]`, the largest of the columns that are missing and of log p.
        ess: `[rows]`, the smallest effective size, bulk or tail.
        divergences, transitions: of all chains.
    """

    w: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray
    divergences: int
    transitions: int


def chained(
    model: TiltedModel,
    rough: Mixture,
    seen: Seen,
    missing: Bool[np.ndarray, "rows dim"],
    draws: int,
    key: PRNGKeyArray,
    *,
    times: int = 1,
) -> Drawn:
    """Draws of what is `missing` of up to `ROWS` rows; warm-up and chains `times` as long."""
    rows = len(missing)
    room = min(ROWS, 2 ** (rows - 1).bit_length())
    at = np.arange(room) % rows  # filled up with some that are there already
    start_key, key = jr.split(key)
    density = _density(model, rough, seen, missing, at)
    start, finite = (np.asarray(a) for a in _started(density, start_key))
    sound = np.all(finite.reshape(room, CHAINS), axis=1)
    if not sound.any():
        return Drawn(np.full((rows, draws, missing.shape[1]), np.nan), *_nothing(rows), 0, 1)
    if not sound.all():  # others move in their place
        instead = np.where(sound, np.arange(room), np.flatnonzero(sound)[0])
        density = _density(model, rough, seen, missing, at[instead])
        start = start.reshape(room, CHAINS, -1)[instead].reshape(start.shape)
    made = sample(
        key,
        density,
        jnp.asarray(start),
        num_draws=times * max(KEPT, -(-draws // 4)),
        num_warmup=times * WARMUP,
        kernel=Alternating((HMC(most_leapfrogs=64), ISIR(proposals=JUMPS)), cycle=(0, 1)),
        step_size=STEP,
        length=LENGTH,
        length_rule=FixedLength(),
        summary=_log_density,
        chunk=CHUNK,
    )
    w = density.columns(np.asarray(made.positions))
    log_p = made.summaries["log_p"].reshape(*w.shape[:3], 1)
    found = [
        worst(np.concatenate([w[row][..., missing[row]], log_p[row]], axis=2))
        if sound[row]
        else (np.nan, np.nan)
        for row in range(rows)
    ]
    picked = np.stack([over_chains(one, draws)[0] for one in w[:rows]])
    picked = np.where(sound[:rows, None, None], picked, np.nan)
    rhat, ess = np.transpose(found)
    return Drawn(picked, rhat, ess, made.divergences, made.transitions * len(start))


def worst(draws: Float[np.ndarray, "chains draws quantities"]) -> tuple[float, float]:
    """The largest R-hat and the smallest effective size; inf and 0 where a quantity never moves.

    A log-density that is the same everywhere, the last quantity, says nothing.
    """
    if np.ptp(draws[..., -1]) < 1e-4:
        draws = draws[..., :-1]
    found = convergence(draws)
    rhat, ess = np.max(found.rhat), min(found.ess_bulk.min(), found.ess_tail.min())
    return float(np.nan_to_num(rhat, nan=np.inf)), float(np.nan_to_num(ess))


def _nothing(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(rows, np.nan), np.full(rows, np.nan)


def _density(
    model: TiltedModel,
    rough: Mixture,
    seen: Seen,
    missing: Bool[np.ndarray, "rows dim"],
    at: np.ndarray,
) -> Conditional:
    """The density of what is missing of the rows `at`."""
    low, middle, width, lost = (a[at] for a in seen)
    base, dim = np.where(lost[:, None], np.nan, low), missing.shape[1]
    diagonal = rough.covariances.ndim == 2
    factor = np.zeros((len(at), dim) if diagonal else (len(at), dim, dim))
    for row, pattern in enumerate(missing[at]):
        mean, root = (a[0] for a in moments(given(rough, middle[row : row + 1], pattern)))
        gaps = np.flatnonzero(pattern)
        base[row, gaps] = np.nan if lost[row] else mean
        if diagonal:
            factor[row, gaps] = root
        else:
            factor[row, gaps[:, None], gaps] = root
    base, factor, width = (jnp.asarray(a, float) for a in (base, factor, width))
    return Conditional(model, jnp.asarray(missing[at]), base, factor, width, CHAINS)


def _log_density(position: Array, log_density: Array) -> dict[str, Array]:
    return {"log_p": log_density}


@eqx.filter_jit
def _started(density: Conditional, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Where chains start, and whether the density is finite there.

    Of some draws of N(0, I) one, chosen by density over that of N(0, I).
    """
    shape = (len(density.base) * density.chains, density.base.shape[1])
    draw_key, choice_key = jr.split(key)
    t = jr.normal(draw_key, (STARTS, *shape))
    over = jax.lax.map(lambda t: density(t) + 0.5 * jnp.sum(t**2, axis=1), t)
    over = jnp.where(jnp.isfinite(over), over, -jnp.inf)
    choice = jr.categorical(choice_key, jnp.maximum(over, -1e30), axis=0)
    chosen = jnp.take_along_axis(t, choice[None, :, None], axis=0)[0]
    return chosen, jnp.isfinite(jnp.max(over, axis=0))
