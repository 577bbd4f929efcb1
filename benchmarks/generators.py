"""A VAE of images, tilted in its latent: what the tilt gains in nats, and in what is seen.

    python benchmarks/generators.py FASHION.npz [--json FILE] [--quick]

FASHION holds `x_train` and `x_test`, images `[rows, 28, 28]` of Fashion-MNIST. The recipe is that
of `tiltflow fit --backbone vae`. Distances are Frechet distances on the features of the embedded
classifier, between the decoder's means, without its noise, and test images; the floor is that of
training images. Chains start dispersed: half from the prior, half at three times its width.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.console import Console

import tiltflow
from tiltflow.backbones import Prior
from tiltflow.data import Dataset
from tiltflow.evaluation.likelihood import likelihood, score
from tiltflow.evaluation.mixing import mixing
from tiltflow.evaluation.noise import noise_width
from tiltflow.evaluation.quality.compare import Quality, quality
from tiltflow.evaluation.quality.features import fashion_mnist
from tiltflow.latent import chain_summary
from tiltflow.learning import Rows
from tiltflow.mcmc import sample
from tiltflow.mcmc.tempering import ReplicaExchange
from tiltflow.normalizer import bridge
from tiltflow.normalizer.annealed import annealed
from tiltflow.normalizer.log_normalizer import exact_f
from tiltflow.settings import Settings, suited_vae

BETAS = (0.0, 0.1, 0.25, 0.45, 0.7, 1.0)  # of replica exchange
CHAINS, WARMUP = 64, 300
EXACT_DRAWS = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="everything runs, little is learned")
    arguments = parser.parse_args()
    started = time.monotonic()
    with np.load(arguments.fashion) as arrays:
        train, test = arrays["x_train"], arrays["x_test"]
    if arguments.quick:
        train, test = train[:6_000], test[:1_000]
    settings = suited_vae(len(train), train.shape[1:])
    settings = quickly(settings) if arguments.quick else settings
    data = Dataset("fashion-mnist", train.astype(np.float32), integers=True)
    result = tiltflow.fit(data, settings, seed=0, listen=show)
    found = judge(result.model, train, test, draws=100 if arguments.quick else 2_000)
    found["seconds"] = round(time.monotonic() - started, 1)
    Console().print_json(json.dumps(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def judge(
    fitted: tiltflow.FittedModel, train: np.ndarray, test: np.ndarray, draws: int
) -> dict[str, object]:
    """The numbers, from chains of their own."""
    model = fitted.model
    assert isinstance(model.backbone, Prior)
    start_key, chain_key, bank_key, ladder_key, score_key = jr.split(jr.key(1), 5)
    start = jr.normal(start_key, (CHAINS, *model.backbone.latent_shape))
    start = start.at[CHAINS // 2 :].multiply(3.0)
    chains = sample(
        chain_key,
        model.latent_log_densities,
        start,
        num_draws=draws,
        num_warmup=WARMUP,
        kernel=ReplicaExchange(BETAS, num_leapfrogs=8),
        step_size=fitted.step_size,
        summary=chain_summary,
    )
    positions = np.asarray(chains.positions)
    by_bridge = bridge(np.asarray(exact_f(model, EXACT_DRAWS, bank_key)), chains.summaries["f"])
    by_ladder = annealed(model.latent_log_densities, positions, key=ladder_key)
    rows = Rows(jnp.asarray(test), model.backbone.units, integers=True)
    scores = score(model, rows, score_key)
    gain = likelihood(scores, by_ladder).gain
    rhat = np.asarray(mixing(chains).rhat)[: positions.shape[-1]]
    number = min(5_000, len(test))
    floor = seen(train[:number], test[:number])
    u = jr.normal(jr.key(2), (number, *model.backbone.latent_shape))
    spread = positions[:, :: max(1, CHAINS * draws // number)].reshape(-1, positions.shape[-1])
    tilted = seen(means(model.backbone, spread[:number]), test[: len(spread)][:number])
    return {
        "backbone": told(seen(means(model.backbone, u), test[:number]), floor),
        "tilted": told(tilted, floor),
        "gain": {
            "bridge": likelihood(scores, by_bridge).gain.mean,
            "annealed": gain.mean,
            "low": gain.low,
            "high": gain.high,
            "both_hold": by_bridge.holds and by_ladder.holds,
        },
        "noise": noise_width(model, positions).to_dict(),
        "rhat_z_max": float(rhat.max()),
    }


def means(prior: Prior, z: np.ndarray) -> np.ndarray:
    """What the decoder makes of latent draws, as images of bytes."""
    images = eqx.filter_jit(lambda z: jax.lax.map(prior.mean, z, batch_size=500))(jnp.asarray(z))
    return np.clip(np.floor(np.asarray(images)), 0, 255)


def seen(images: np.ndarray, reference: np.ndarray) -> Quality:
    return quality(images.astype(np.float32), reference.astype(np.float32), fashion_mnist())


def told(found: Quality, floor: Quality) -> dict[str, float]:
    assert found.classes is not None
    return {
        "frechet": found.frechet.value,
        "floor": floor.frechet.value,
        "class_share_min": found.classes.smallest[1],
        "class_share_max": found.classes.largest[1],
    }


def quickly(settings: Settings) -> Settings:
    return replace(
        settings,
        vae=replace(settings.vae, steps=250),
        tilt=replace(settings.tilt, steps=50, nce_steps=250, particles=256, bank=5_000),
        sampling=replace(settings.sampling, chains=8, draws=50, exact_draws=10_000),
    )


def show(phase: str, event: str, **fields: object) -> None:
    if event in ("kept", "contrast", "degenerate", "health", "stopped"):
        Console(stderr=True).print(phase, event, fields)


if __name__ == "__main__":
    main()
