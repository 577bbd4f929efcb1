"""log Z of a tilted model by the cheapest means that holds.

Exact draws of the backbone and draws of the tilted model are enough for importance and bridge
sampling (`from_values`). Where these do not hold, or leave log Z less certain than asked, a
ladder of intermediate densities is climbed and descended (`annealed`).
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.devices import map_in_parts, over_devices, spread
from tiltflow.mcmc import run
from tiltflow.normalizer.annealed import LadderSettings, OnRound, annealed
from tiltflow.normalizer.estimate import LogZ
from tiltflow.normalizer.from_values import from_values
from tiltflow.normalizer.passage import tilt
from tiltflow.tilted import TiltedModel

EXACT_DRAWS = 200_000
PART = 2_048  # of them at a time
CHAINS, DRAWS, WARMUP = 32, 1_000, 300


def log_normalizer(
    model: TiltedModel,
    *,
    key: PRNGKeyArray,
    draws: Float[np.ndarray, "chains draws ..."] | None = None,
    exact_draws: int = EXACT_DRAWS,
    settings: LadderSettings | None = None,
    on_round: OnRound | None = None,
) -> LogZ:
    """log Z with an interval, and bounds from both sides.

    Importance or bridge sampling, if they hold and their bounds are no further apart than the
    settings' tolerance; otherwise the ladder.

    Args:
        model: backbone and tilt.
        key: random key.
        draws: latent draws of the model, from equilibrated chains that are independent of one
            another; None: HMC chains are started from the backbone here. They are not judged:
            what has not converged shows only where the two sides disagree.
        exact_draws: of the backbone.
        settings: of the ladder.
        on_round: of the ladder, see `annealed`.

    Raises:
        InputError: fewer than 4 chains; f not finite at a draw.
    """
    settings = settings or LadderSettings()
    exact_key, start_key, chain_key, key = jr.split(key, 4)
    if draws is None:
        start = jr.normal(start_key, (CHAINS, *model.backbone.latent_shape))
        sampled = run.sample(
            chain_key, model.latent_log_densities, start, num_draws=DRAWS, num_warmup=WARMUP
        )
        draws = np.asarray(sampled.positions)
    f_q = np.asarray(exact_f(model, exact_draws, exact_key))
    by_values = from_values(f_q, np.asarray(f_at(model, jnp.asarray(draws))))
    apart = by_values.upper - by_values.lower
    if by_values.holds and apart <= settings.tolerance:
        return by_values
    found = annealed(
        model.latent_log_densities, draws, key=key, settings=settings, on_round=on_round
    )
    if found.holds or not by_values.holds:
        return found
    return replace(found, words=f"{found.words} By {by_values.method}: {by_values.mean:.3f}.")


@over_devices
def exact_f(model: TiltedModel, number: int, key: PRNGKeyArray) -> Float[Array, " number"]:
    """f at `number` exact draws of the backbone; memory does not grow with their size."""

    def one(key: PRNGKeyArray) -> Array:
        u = jr.normal(key, model.backbone.latent_shape)
        return model.tilt(model.backbone.coordinates(u))

    return map_in_parts(one, jr.split(key, number), PART)


@over_devices
def f_at(model: TiltedModel, u: Float[Array, "chains draws ..."]) -> Float[Array, "chains draws"]:
    """f at latent points, a chain at a time."""
    return jax.lax.map(lambda u: tilt(model.latent_log_densities, spread(u)), u)
