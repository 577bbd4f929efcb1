"""log Z of a tilted model by the cheapest means that holds.

Exact draws of the backbone and draws of the tilted model are enough for importance and bridge
sampling (`from_values`). Where these do not hold, or leave log Z less certain than asked, a
ladder of intermediate densities is climbed and descended (`annealed`).
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc import run
from tiltflow.model.exact import exact, exact_points, push_in_parts
from tiltflow.model.kernels import kernel_of
from tiltflow.model.tilted import ExactDraws, TiltedModel
from tiltflow.model.told import f_of
from tiltflow.normalizer.annealed import LadderSettings, OnRound, Rounds, annealed
from tiltflow.normalizer.estimate import LogZ
from tiltflow.normalizer.from_values import from_values
from tiltflow.normalizer.rounding import step_of, within_rounding
from tiltflow.normalizer.smc import in_parts, that_fit, tilt
from tiltflow.parallel.devices import map_in_parts, over_devices, spread
from tiltflow.tilts import MixtureTilt, WithNoise

Mixture = MixtureTilt | WithNoise
EXACT_DRAWS = 200_000
PART = 2_048  # of them at a time, at most
CHAINS, DRAWS, WARMUP, LEAPFROGS = 32, 1_000, 300, 8


def log_normalizer(
    model: TiltedModel,
    *,
    key: PRNGKeyArray,
    draws: Float[np.ndarray, "chains draws ..."] | None = None,
    exact_draws: int = EXACT_DRAWS,
    settings: LadderSettings | None = None,
    on_round: OnRound | None = None,
    rounds: Rounds | None = None,
) -> LogZ:
    """log Z with an interval, and bounds from both sides.

    Importance or bridge sampling, if they hold and their bounds are no further apart than the
    settings' tolerance (over an ensemble, whose draws are near the model and whose gradients are
    dear, their interval no wider); otherwise the ladder.

    Args:
        model: backbone and tilt.
        key: random key.
        draws: latent draws of the model, from equilibrated chains that are independent of one
            another; None: chains are started from the backbone here, and move as suits the model
            (`kernels.kernel_of`). They are not judged: what has not converged shows only where the
            two sides disagree.
        exact_draws: of the backbone.
        settings: of the ladder.
        on_round, rounds: of the ladder, see `annealed`.

    Raises:
        InputError: fewer than 4 chains; f not finite at a draw.
    """
    settings = settings or LadderSettings()
    exact_key, start_key, chain_key, key = jr.split(key, 4)
    if draws is None:
        start = exact_points(model.backbone, start_key, CHAINS)
        sampled = run.sample(
            chain_key,
            model.latent_log_densities,
            start,
            num_draws=DRAWS,
            num_warmup=WARMUP,
            kernel=kernel_of(model, None, LEAPFROGS),
        )
        draws = np.asarray(sampled.positions)
    by_values = from_exact(model, draws, exact_draws, exact_key)
    apart = abs(by_values.upper - by_values.lower)
    near = apart <= settings.tolerance
    if isinstance(model.mixture, ExactDraws):  # a ladder is dear, and the proposal near
        near |= by_values.high - by_values.low <= settings.tolerance
    if by_values.holds and near:
        return by_values
    found = annealed(
        model.latent_log_densities,
        draws,
        key=key,
        settings=settings,
        on_round=on_round,
        mixture=model.mixture,
        rounds=rounds,
    )
    found = within_rounding(found, step_of(f_at(model, jnp.asarray(draws))))
    if found.holds or not by_values.holds:
        return found
    return replace(found, words=f"{found.words} By {by_values.method}: {by_values.mean:.3f}.")


def from_exact(
    model: TiltedModel,
    draws: Float[np.ndarray, "chains draws ..."],
    number: int,
    key: PRNGKeyArray,
) -> LogZ:
    """Importance or bridge sampling between `draws` and so many exact ones.

    Those are the backbone's; or, where the tilt has a mixture in it, the mixture's: its log Z is
    0, and it is much nearer.
    """
    u = jnp.asarray(draws)
    if (mixture := model.mixture) is None or isinstance(mixture, ExactDraws):
        return from_values(exact_f(model, number, key), f_at(model, u))
    return from_values(_added_to_exact(model, mixture, number, key), _added(model, mixture, u))


def _adds(model: TiltedModel, mixture: Mixture, u: Float[Array, " dim"]) -> Float[Array, ""]:
    """What the model adds to the log-density of its mixture over N(0, I)."""
    return model.tilt(model.backbone.coordinates(u)) - mixture(u) - mixture.level


@over_devices
def _added(
    model: TiltedModel, mixture: Mixture, u: Float[Array, "chains draws dim"]
) -> Float[Array, "chains draws"]:
    flat = u.reshape(-1, u.shape[-1])
    f = map_in_parts(lambda u: _adds(model, mixture, u), flat, _at_once(model))
    return f.reshape(u.shape[:2])


@over_devices
def _added_to_exact(
    model: TiltedModel, mixture: Mixture, number: int, key: PRNGKeyArray
) -> Float[Array, " number"]:
    """That at exact draws of the mixture, which are never all in memory."""

    def one(key: PRNGKeyArray) -> Array:
        return _adds(model, mixture, mixture.draw(key, 1)[0])

    return map_in_parts(one, jr.split(key, number), _at_once(model))


def exact_f(model: TiltedModel, number: int, key: PRNGKeyArray) -> Float[Array, " number"]:
    """f at `number` exact draws of the backbone; memory does not grow with their size."""
    if model.backbone.is_normal:
        return _exact_f(model, number, key)
    return jnp.asarray(f_of(model.tilt, exact(model.backbone, key, number).c))


@over_devices
def _exact_f(model: TiltedModel, number: int, key: PRNGKeyArray) -> Float[Array, " number"]:
    shape = model.backbone.latent_shape

    def one(key: PRNGKeyArray) -> Array:
        return model.tilt(model.backbone.coordinates(jr.normal(key, shape)))

    return map_in_parts(one, jr.split(key, number), _at_once(model))


def _at_once(model: TiltedModel) -> int:
    """Of how many draws f is computed at a time."""
    u = jnp.zeros((1, *model.backbone.latent_shape))
    return min(PART, that_fit(model.latent_log_densities, u))


def f_at(model: TiltedModel, u: Float[Array, "chains draws ..."]) -> Float[Array, "chains draws"]:
    """f at latent points, as many at a time as fit."""
    if model.backbone.is_normal:
        return _f_at(model, u)
    c = np.asarray(push_in_parts(model.backbone, u.reshape(-1, *u.shape[2:])))
    return jnp.asarray(f_of(model.tilt, c).reshape(u.shape[:2]))


@over_devices
def _f_at(model: TiltedModel, u: Float[Array, "chains draws ..."]) -> Float[Array, "chains draws"]:
    flat, density = u.reshape(-1, *u.shape[2:]), model.latent_log_densities
    f = in_parts(lambda u: tilt(density, u), spread(flat), that_fit(density, flat))
    return f.reshape(u.shape[:2])
