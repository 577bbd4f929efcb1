"""What a tilted Glow is worth, by chains that are started afresh: the second half of `images.py`.

Time goes to latent chains by replica exchange (half of it), to HMC without replicas in the latent
space and on the same density in data space, from the same start, and to the ladder; what is left
is for test images and class shares. A gradient of any replica counts. There are few
chains, and long ones: R-hat depends on how long a chain is, not on how many there are. Chains that
do not move are flattered by an effective size of one each, so there are fewer still of HMC.
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.backbones.base import Flow
from tiltflow.diagnostics.convergence import convergence
from tiltflow.evaluation.likelihood import Scores, bits_per_dim, likelihood, score
from tiltflow.evaluation.quality.features import fashion_mnist
from tiltflow.learning import Rows
from tiltflow.mcmc import HMC, Draws, Kernel, ReplicaExchange, sample
from tiltflow.mcmc.replicas import barrier, evened
from tiltflow.mcmc.tempering import rising
from tiltflow.model.data_space import data_space_log_density, data_space_start
from tiltflow.model.latent_chains import chain_summary
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ, bridge
from tiltflow.normalizer.annealed import LadderSettings, annealed
from tiltflow.normalizer.from_replicas import from_replicas

CHAINS, REPLICAS, EXCHANGED = 16, 5, 8  # EXCHANGED: leapfrogs between two exchanges
HMC_CHAINS, LEAPFROGS = 4, 20
WARMUP = 0.15  # of the time of a set of chains
LATENT, HMC_LATENT, DATA_SPACE, LADDER = 0.46, 0.03, 0.20, 0.09  # of the time there is
TRIED = 15  # transitions that warm up the first look at a set of chains, and twice as many draws
PROJECTIONS = 64  # of data, on random directions
TEST, DEQUANTISATIONS = 2_000, 4
EXACT = 5_000  # draws of the backbone, for the bridge
CLASSIFIED = 10_000  # draws


def judge(
    model: TiltedModel, train: Rows, test: Rows, *, until: float
) -> tuple[dict[str, Any], LogZ, float]:
    """The numbers that `images.py` prints, see there; log Z by the ladder, and the step size."""
    assert isinstance(model.backbone, Flow)
    left = max(until - time.monotonic(), 1.0)
    start_key, chain_key, ladder_key, score_key, exact_key = jr.split(jr.key(5), 5)
    scores = score(model, test.first(TEST), score_key, DEQUANTISATIONS)
    f_train = score(model, train.first(TEST), score_key, 1).f.mean()

    u = jr.normal(start_key, (CHAINS, *model.backbone.latent_shape))
    density, hmc = model.latent_log_densities, HMC(num_leapfrogs=LEAPFROGS)
    latent, betas = chains(chain_key, density, u, exchange(), 0.1, LATENT * left, chain_summary)
    few = u[:HMC_CHAINS]
    alone, _ = chains(chain_key, density, few, hmc, 0.1, HMC_LATENT * left, chain_summary)
    outside, _ = chains(
        chain_key, data_space_log_density(model), data_space_start(model, few), hmc, 0.005,
        DATA_SPACE * left, log_density,
    )  # fmt: skip

    positions = np.asarray(latent.positions)
    settings = LadderSettings(particles=256, budget=LADDER * left)
    ladder = annealed(model.latent_log_densities, positions, key=ladder_key, settings=settings)
    f_chains = np.asarray(latent.summaries["f"])
    by_bridge = bridge(np.asarray(exact_f(model, EXACT, exact_key)), f_chains)
    found = likelihood(scores, ladder)

    directions = np.asarray(jr.normal(jr.key(6), (model.backbone.dim, PROJECTIONS)))
    directions = directions / np.linalg.norm(directions, axis=0)
    of_latent = pushed(model.backbone, positions) @ directions
    y = np.asarray(outside.positions)
    f_alone = np.asarray(alone.summaries["f"])
    looked_at = {
        "latent": (latent, f_chains, of_latent),
        "latent_hmc": (
            alone,
            f_alone,
            pushed(model.backbone, np.asarray(alone.positions)) @ directions,
        ),
        "data_space": (outside, np.asarray(f_of(model, y)), y @ directions),
    }
    found_of = {
        name: {"f": convergence(f[..., None]), "projections": convergence(projections)}
        for name, (_, f, projections) in looked_at.items()
    }
    rhats = {
        name: {what: float(np.nanmax(c.rhat)) for what, c in each.items()}
        for name, each in found_of.items()
    }
    ess = {
        name: {
            what: 1000 * float(np.nanmin(c.ess_bulk)) / total(looked_at[name][0])
            for what, c in each.items()
        }
        for name, each in found_of.items()
    }
    by_replicas = from_replicas(betas, np.asarray(latent.replicas))
    told = {
        "backbone": {"bpd": bits(scores, model)},
        "tilted": {
            "bpd": bits_per_dim(found.tilted.mean, model.backbone.dim),
            "low": bits_per_dim(found.tilted.low, model.backbone.dim),
            "high": bits_per_dim(found.tilted.high, model.backbone.dim),
        },
        "gain_nats": {
            "ladder": found.gain.mean,
            "bridge": likelihood(scores, by_bridge).gain.mean,
            "replicas": likelihood(scores, by_replicas).gain.mean,
            "low": found.gain.low,
            "high": found.gain.high,
            "ladder_holds": ladder.holds,
            "bridge_holds": by_bridge.holds,
            "replicas_holds": by_replicas.holds,
        },
        "f_gap": {
            "chains": float(f_chains.mean() - scores.f.mean()),
            "expected": float(f_train - scores.f.mean()),
        },
        "rhat": {"u": float(np.nanmax(convergence(positions).rhat)), **rhats["latent"]},
        "rhat_latent_hmc": rhats["latent_hmc"],
        "rhat_data_space": rhats["data_space"],
        "class_share": class_share(model.backbone, positions),
        "ess_per_1000_gradients": ess,
        "ess_ratio": min(ess["latent"].values()) / min(ess["data_space"].values()),
        "acceptance": float(np.mean(latent.acceptance)),
        "barrier": barrier(betas, np.asarray(latent.replicas)),
        "betas": np.round(betas, 3).tolist(),
        "transitions": latent.transitions,
        "gradients_per_second": round(total(latent) / latent.seconds, 1),
    }
    return told, ladder, latent.step_size


def exchange() -> ReplicaExchange:
    """Chains of replicas, from the backbone to the model."""
    return ReplicaExchange(rising(REPLICAS), num_leapfrogs=EXCHANGED)


def chains(
    key: jax.Array, density: Any, start: jax.Array, kernel: Kernel, step_size: float,
    seconds: float, summary: Any,
) -> tuple[Draws, np.ndarray | None]:  # fmt: skip
    """Chains from `start` for about so many seconds, and the betas, where they have replicas.

    A few transitions tell how long one takes, the step size, and betas that exchange evenly.
    """
    began = time.monotonic()
    how = {"summary": summary, "chunk": 5}
    rates, betas = [], None
    tried = sample(
        key, density, start, num_draws=2 * TRIED, num_warmup=TRIED, step_size=step_size,
        kernel=kernel, on_chunk=lambda news: rates.append(news.rate), **how,
    )  # fmt: skip
    if isinstance(kernel, ReplicaExchange):
        betas = evened(np.asarray(kernel.betas), np.asarray(tried.replicas))
        kernel = ReplicaExchange(betas, num_leapfrogs=kernel.num_leapfrogs)
    seconds = max(seconds - (time.monotonic() - began), 0.3 * seconds)
    warmup = max(20, int(WARMUP * seconds * rates[-1]))
    draws = max(40, int((1 - WARMUP) * seconds * rates[-1]))
    made = sample(
        key, density, start, num_draws=draws, num_warmup=warmup, step_size=tried.step_size,
        kernel=kernel, **how,
    )  # fmt: skip
    return made, betas


def log_density(position: jax.Array, log_density: jax.Array) -> dict[str, jax.Array]:
    """What is recorded of chains in data space."""
    return {"log_density": log_density}


def total(draws: Draws) -> float:
    """Gradients of all chains, those of the warm-up left out."""
    return float(len(np.asarray(draws.positions)) * draws.gradients)


def bits(scores: Scores, model: TiltedModel) -> float:
    """Bits per dimension of the backbone."""
    return bits_per_dim(-float(scores.log_q.mean()), model.backbone.dim)


@eqx.filter_jit
def _pushed(backbone: Flow, u: jax.Array) -> jax.Array:
    return jax.lax.map(backbone.coordinates, u, batch_size=256)


def pushed(backbone: Flow, positions: np.ndarray) -> np.ndarray:
    """Coordinates of draws `[chains, draws, *latent_shape]`, `[chains, draws, dim]`."""
    flat = jnp.asarray(positions.reshape(-1, *positions.shape[2:]))
    return np.asarray(_pushed(backbone, flat)).reshape(*positions.shape[:2], -1)


@eqx.filter_jit
def f_of(model: TiltedModel, y: np.ndarray) -> jax.Array:
    """The tilt at coordinates `[chains, draws, dim]`."""
    return jax.lax.map(jax.vmap(model.tilt), jnp.asarray(y))


def class_share(backbone: Flow, positions: np.ndarray) -> dict[str, Any] | None:
    """The smallest and the largest share of a class among draws, where a classifier knows them."""
    features = fashion_mnist()
    if backbone.data_shape != features.shape or features.classify is None:
        return None
    flat = positions.swapaxes(0, 1).reshape(-1, *positions.shape[2:])
    spread = flat[np.linspace(0, len(flat) - 1, min(CLASSIFIED, len(flat))).astype(int)]
    y = pushed(backbone, spread[None])[0]
    x = np.asarray(jax.jit(jax.vmap(backbone.units.decode))(jnp.asarray(y)))
    told = features.classify(features(np.clip(np.floor(x), 0, 255).astype(np.float32)))
    shares = np.bincount(told, minlength=len(features.classes)) / len(told)
    each = np.round(shares, 4).tolist()
    return {"min": float(shares.min()), "max": float(shares.max()), "each": each}
