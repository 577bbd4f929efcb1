"""Particles made anew by replica exchange, from exact draws of the backbone up to the present f.

Resampling leaves a population with fewer ancestors stage after stage, and where f has cut the
model into parts no local move brings the lost ones back. So the shares of the parts wander off,
learning corrects f for it, and the model is wrong where its particles look right.

Chains of replicas start from the backbone and carry fresh draws of it up all the time
(`mcmc/tempering.py`). What they pass at beta = 1 become the particles: learners from one half of
the chains, witnesses from the other. All replicas together tell log Z (`from_replicas`).
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones import Backbone
from tiltflow.diagnostics.convergence import rhat
from tiltflow.learning.start import Start
from tiltflow.mcmc import Draws, ReplicaExchange, sample
from tiltflow.mcmc.tempering import rising
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.from_replicas import from_replicas
from tiltflow.tilted import TiltedModel
from tiltflow.tilts import Tilt

WARMUP = 0.25  # of the transitions


class Renewal(NamedTuple):
    """What replica exchange has found.

    Attributes:
        start: draws of the model, log Z and the step size.
        log_z: the same log Z, with its interval and whether it holds.
        f: at beta = 1, `[chains, draws]`, in nats.
        rhat: of f.
    """

    start: Start
    log_z: LogZ
    f: np.ndarray
    rhat: float


def renew(
    key: PRNGKeyArray,
    backbone: Backbone,
    tilt: Tilt,
    particles: int,
    step_size: Array,
    *,
    replicas: int,
    chains: int,
    transitions: int,
    leapfrogs: int,
) -> Renewal:
    """As many draws of the model as there are to be particles.

    Args:
        key: random key.
        backbone, tilt: the model; the tilt does not change meanwhile.
        particles: how many draws are wanted, an even number.
        step_size: the first one.
        replicas: of each chain, the two ends among them.
        chains: an even number of them.
        transitions: of each, a quarter of them for warm-up.
        leapfrogs: in a transition of a replica.
    """
    start_key, key = jr.split(key)
    model = TiltedModel(backbone, tilt)
    warmup = round(WARMUP * transitions)
    betas = rising(replicas)
    draws = sample(
        key,
        model.latent_log_densities,
        jr.normal(start_key, (chains, *backbone.latent_shape)),
        num_draws=transitions - warmup,
        num_warmup=warmup,
        kernel=ReplicaExchange(betas, num_leapfrogs=leapfrogs),
        step_size=float(step_size),
        chunk=min(25, transitions),
    )
    return _renewal(draws, betas, particles)


def _renewal(draws: Draws, betas: np.ndarray, particles: int) -> Renewal:
    """Evenly spread draws of either half of the chains, and what all of them tell."""
    assert draws.positions is not None
    assert draws.replicas is not None
    log_z = from_replicas(betas, draws.replicas)
    f = draws.replicas[..., -1]
    halves = np.split(draws.positions, [len(draws.positions) // 2])
    chosen = [_spread(half, particles // 2) for half in halves]
    start = Start(
        jnp.asarray(np.concatenate(chosen)),
        jnp.asarray(log_z.mean, float),
        jnp.asarray(draws.step_size, float),
    )
    return Renewal(start, log_z, f, float(rhat(f)))


def _spread(positions: np.ndarray, number: int) -> np.ndarray:
    """So many draws `[number, ...]` of `[chains, draws, ...]`, from all chains, evenly in time."""
    flat = positions.swapaxes(0, 1).reshape(-1, *positions.shape[2:])
    return flat[np.linspace(0, len(flat) - 1, number).astype(int)]
