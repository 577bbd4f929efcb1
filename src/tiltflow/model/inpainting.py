"""Inpainting by chains: what may stand where nothing is seen, given what is seen elsewhere.

The draws are those of x given x_seen + sigma eps (`tilts/observed.py`): the posterior under
observation noise of a stated width sigma, not under none. Seen pixels of a draw are off by about
sigma. With sigma towards 0 the seen part is held fast, and chains need steps as small as sigma.

Chains start from exact draws of the backbone, far from a narrow posterior, so sigma begins wide and
is halved until it is what was asked for. That is a better start and no guarantee: where the hidden
part has several solutions, chains can stay with the one they came to, and R-hat says so.
"""

import math
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.backbones import Prior
from tiltflow.errors import InputError
from tiltflow.mcmc import sample
from tiltflow.mcmc.draws import Draws
from tiltflow.model.exact import exact_points
from tiltflow.model.fitted import FittedModel
from tiltflow.model.kernels import kernel_of
from tiltflow.model.latent_chains import summary_of
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts.observed import ObservedTilt


def inpaint(
    fitted: FittedModel,
    x: Any,
    seen: Any,
    *,
    sigma: float,
    chains: int = 32,
    draws: int = 100,
    warmup: int = 200,
    halvings: int = 4,
    seed: int = 0,
) -> tuple[np.ndarray, Draws]:
    """Draw whole examples that agree with the seen part of `x`, up to noise of width `sigma`.

    Args:
        fitted: the model.
        x: one example, `data_shape`, in data units; its hidden part is not looked at.
        seen: which part is seen, booleans, `data_shape`.
        sigma: standard deviation of the observation's noise, in data units.
        chains: side by side.
        draws: of each.
        warmup: transitions before that, and at each wider sigma.
        halvings: how often sigma is halved on the way.
        seed: of the starts and of everything the chains do.

    Returns:
        x, `[chains, draws, *data_shape]` in data units (integers rounded down), seen part and
        hidden, and the latent draws, for `tiltflow.diagnostics`: ask them whether they agree.

    Raises:
        InputError: an x or a mask of another shape; seen values that are not finite or, of a model
            of integers, not integers; a sigma that is not positive, halvings, chains, draws or
            warmup that are no such numbers; a model whose chains move a generator's z alone.
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma is {sigma}; expected a positive width, in data units")
    if not isinstance(halvings, int | np.integer) or halvings < 0:
        raise InputError(f"halvings is {halvings!r}; expected a whole number, 0 or more")
    for name, number, least in (("chains", chains, 1), ("draws", draws, 1), ("warmup", warmup, 0)):
        if not isinstance(number, int | np.integer) or number < least:
            raise InputError(f"{name} is {number!r}; expected a whole number >= {least}")
    y, mask = _observation(fitted, x, seen)
    start_key, key = jr.split(jr.key(seed))
    latent, step_size = None, fitted.step_size
    at = exact_points(fitted.model.backbone, start_key, chains)
    for stage in range(halvings, -1, -1):
        model = observed(fitted.model, y, mask, sigma * 2**stage)
        latent = sample(
            jr.fold_in(key, stage),
            model.latent_log_densities,
            at,
            num_draws=1 if stage else draws,
            num_warmup=warmup,
            kernel=kernel_of(model, "hmc", fitted.leapfrogs),
            step_size=step_size,
            summary=summary_of(model),
        )
        if stage:
            at, step_size = latent.final.position, latent.step_size
    assert latent is not None
    return fitted.push(np.asarray(latent.positions)), latent


def observed(model: TiltedModel, y: Any, seen: Any, sigma: float) -> TiltedModel:
    """The model of x given the `seen` part of `y` (`data_shape`, data units) with noise `sigma`.

    What its log Z is, is said in `tilts/observed.py`.
    """
    y, seen = jnp.asarray(y, float), jnp.asarray(seen, bool)
    tilt = ObservedTilt(model.tilt, model.backbone, y, seen, jnp.asarray(sigma, float))
    return TiltedModel(model.backbone, tilt)


def _observation(fitted: FittedModel, x: Any, seen: Any) -> tuple[np.ndarray, np.ndarray]:
    """The seen values with zeros elsewhere, integers as the middles of their bins; the mask."""
    backbone = fitted.model.backbone
    if isinstance(backbone, Prior):
        raise InputError(
            "the chains of this model move its generator's z alone, which leaves x uncertain; "
            "expected a flow, or a tilt of a generator's data"
        )
    x, mask = np.asarray(x, np.float32), np.asarray(seen)
    if mask.dtype != bool or mask.shape != backbone.data_shape:
        raise InputError(
            f"the mask is {mask.dtype}{list(mask.shape)}; expected booleans of the shape of one "
            f"example, {backbone.data_shape}: true where it is seen"
        )
    if x.shape != mask.shape:
        raise InputError(f"x has shape {x.shape}; expected one example, {mask.shape}")
    if not np.isfinite(x[mask]).all():
        raise InputError("the seen part of x is not finite; expected numbers: hide what is missing")
    y = fitted.check_rows(np.where(mask, x, 0.0)[None])[0]
    return fitted.middle(y), mask
