"""Four modes in many dimensions: how far the chains' histogram of modes is from the truth.

The protocol follows Grenioux, Durmus, Moulines, Gabrié 2023, "On sampling with approximate
transport maps" (arXiv 2302.04763): unit Gaussians at means +-0.591 sqrt(2 ln d), the signs
constant on each half of the coordinates, one mode for each of the four patterns, with equal and
with unequal weights; 32 chains. A coupling flow is fitted to samples of the target, and the tilt
is f = l - log q, so that the tilted model is the target itself and its latent log-density
l(g(u)) + log|det J_g(u)|.

local: HMC. mixture: HMC and i-SIR in turn, as many transitions. Both start from the same draws of
the flow. flowmc: flowMC's MALA and its own spline flow, trained by its own loops from those
starts, at its bundle's defaults; it does not see samples of the target. A draw belongs to the
mode with the nearest mean. `error` is what the total variation of perfect chains would be on
average, from the spread of the chains' own histograms: of local chains, which never leave their
modes, that is large.
"""

import importlib.util
import math
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning.fit_backbone import BackboneSettings, fit_backbone
from tiltflow.learning.rows import Rows
from tiltflow.mcmc import HMC, ISIR, Mixture, sample
from tiltflow.model.tilted import TiltedModel

DIMS = (16, 32, 64, 128, 256)
WEIGHTS = {"equal": (0.25, 0.25, 0.25, 0.25), "unequal": (0.1, 0.2, 0.3, 0.4)}
CHAINS = 32
ROWS = 20_000  # of the target, to fit the flow to; a tenth judges it
BLOCKS, WIDTH = 3, 64
LEAPFROGS = 8
PROPOSALS = 64
WARMUP, TRANSITIONS = 200, 4_000


class FourModes(eqx.Module):
    """The mixture, up to a constant.

    Attributes:
        means: `[4, dim]`.
        log_weights: `[4]`.
    """

    means: Float[Array, "modes dim"]
    log_weights: Float[Array, " modes"]

    def __init__(self, dim: int, weights: tuple[float, ...]) -> None:
        """In `dim` dimensions."""
        signs = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        self.means = 0.591 * math.sqrt(2 * math.log(dim)) * jnp.repeat(signs, dim // 2, axis=1)
        self.log_weights = jnp.log(jnp.asarray(weights))

    def log_density(self, x: Float[Array, " dim"]) -> Float[Array, ""]:
        """The unnormalised log-density."""
        squares = jnp.sum((x - self.means) ** 2, axis=1)
        return jax.nn.logsumexp(self.log_weights - 0.5 * squares)

    def draw(self, key: Array, number: int) -> Float[Array, "number dim"]:
        """Independent draws."""
        mode_key, noise_key = jr.split(key)
        mode = jr.categorical(mode_key, self.log_weights, shape=(number,))
        return self.means[mode] + jr.normal(noise_key, (number, self.means.shape[1]))


class GivenTilt(eqx.Module):
    """f = l - log q: the tilt that makes the tilted model a given density.

    Attributes:
        target: l, of data.
        backbone: q.
    """

    target: FourModes
    backbone: CouplingFlow

    def __call__(self, y: Float[Array, " dim"]) -> Float[Array, ""]:
        """f at coordinates y; the units' log-determinant, a constant, is left out."""
        x = self.backbone.units.decode(y)
        return self.target.log_density(x) - self.backbone.log_prob_coordinates(y)


def modes(dim: int, *, quick: bool) -> dict:
    """Total variation in `dim` dimensions, for equal and unequal weights."""
    results = {}
    for name, weights in WEIGHTS.items():
        results[name] = compete(dim, weights, quick)
        told = ", ".join(f"{who} {row['tv']:.3f}" for who, row in results[name].items())
        print(f"{dim} dimensions, {name} modes: {told}", flush=True)
    return results | {
        who: max(results[name][who]["tv"] for name in WEIGHTS) for who in results["equal"]
    }


def compete(dim: int, weights: tuple[float, ...], quick: bool) -> dict[str, dict[str, float]]:
    """Every sampler on one target, from the same starts."""
    target = FourModes(dim, weights)
    backbone = fitted_flow(target, quick)
    model = TiltedModel(backbone, GivenTilt(target, backbone))
    start_key, key = jr.split(jr.key(2))
    u = jr.normal(start_key, (CHAINS, dim))
    local = HMC(num_leapfrogs=jnp.asarray(LEAPFROGS))
    kernels = {"local": local, "mixture": Mixture((local, ISIR(PROPOSALS)), cycle=(0, 1))}
    transitions = TRANSITIONS // (10 if quick else 1)
    push = jax.jit(jax.vmap(jax.vmap(backbone.push)))

    results = {}
    for who, kernel in kernels.items():
        started = time.perf_counter()
        draws = sample(
            key, model.latent_log_densities, u, kernel=kernel, num_warmup=WARMUP,
            num_draws=transitions // 2, thin=2,
        )  # fmt: skip
        x = np.asarray(push(draws.positions))
        results[who] = histogram(x, target, weights) | {"seconds": time.perf_counter() - started}
    started = time.perf_counter()
    x = flowmc(target, np.asarray(push(u[None])[0]), transitions)
    if x is None:
        print("flowmc is not installed: skipped", flush=True)
    else:
        results["flowmc"] = histogram(x, target, weights) | {
            "seconds": time.perf_counter() - started
        }
    return results


def fitted_flow(target: FourModes, quick: bool) -> CouplingFlow:
    """A coupling flow, fitted to samples of the target."""
    draw_key, flow_key, fit_key = jr.split(jr.key(3), 3)
    x = target.draw(draw_key, ROWS)
    units = fit_units("whiten", np.asarray(x), integers=False)
    flow = CouplingFlow(units, num_blocks=BLOCKS, width=WIDTH, key=flow_key)
    val = ROWS // 10
    settings = BackboneSettings(steps=1_000 if quick else 4_000)
    flow, _ = fit_backbone(
        flow,
        Rows(x[val:], units, False),
        Rows(x[:val], units, False),
        settings,
        key=fit_key,
        listen=lambda phase, event, **fields: None,
    )
    return flow


def histogram(
    x: Float[np.ndarray, "chains draws dim"], target: FourModes, weights: tuple[float, ...]
) -> dict[str, float]:
    """The total variation of the modes' shares, and its Monte Carlo error."""
    means = np.asarray(target.means)
    scores = x @ means.T - 0.5 * np.sum(means**2, axis=1)
    shares = np.mean(np.argmax(scores, axis=2)[..., None] == np.arange(len(means)), axis=1)
    error = shares.std(axis=0, ddof=1) / math.sqrt(len(shares))
    return {
        "tv": float(0.5 * np.abs(shares.mean(axis=0) - weights).sum()),
        "error": float(0.5 * math.sqrt(2 / math.pi) * error.sum()),
    }


def flowmc(target: FourModes, start: np.ndarray, transitions: int) -> np.ndarray | None:
    """flowMC's draws `[chains, draws, dim]`: as many transitions in training, as many after."""
    if importlib.util.find_spec("flowMC") is None:
        return None
    from flowMC.resource_strategy_bundle.RQSpline_MALA import RQSpline_MALA_Bundle
    from flowMC.Sampler import Sampler

    chains, dim = start.shape
    bundle_key, key = jr.split(jr.key(4))
    loops = max(transitions // 200, 1)
    bundle = RQSpline_MALA_Bundle(
        bundle_key, chains, dim, lambda x, data: target.log_density(x),
        n_local_steps=100, n_global_steps=100, n_training_loops=loops,
        n_production_loops=loops, n_epochs=5,
    )  # fmt: skip
    sampler = Sampler(
        n_dim=dim, n_chains=chains, rng_key=key, resource_strategy_bundles=bundle,
        checkpoint_interval=0,
    )  # fmt: skip
    sampler.sample(jnp.asarray(start), {})
    return np.asarray(sampler.resources["positions_production"].data)
