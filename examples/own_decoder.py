"""Tilt a decoder of your own: here a bent band, while the data are four of its spots.

python examples/own_decoder.py [--quick]
"""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow import TiltedModel, log_normalizer
from tiltflow.backbones import Generator, Prior
from tiltflow.backbones.networks import MLPEncoder
from tiltflow.evaluation.likelihood import likelihood, score
from tiltflow.learning import Rows, TiltSettings, fit_tilt
from tiltflow.learning.fit_vae import VAESettings, fit_vae
from tiltflow.mcmc import sample
from tiltflow.normalizer.annealed import LadderSettings
from tiltflow.tilts import MLPTilt


def decoder(z):
    """Any differentiable function of normal noise; for PyTorch see backbones/foreign.py."""
    return jnp.stack([2.0 * z[0], jnp.sin(2.0 * z[0]) + 0.3 * z[1]])


quick = "--quick" in sys.argv
rng = np.random.default_rng(0)
z = rng.choice([-1.5, -0.5, 0.5, 1.5], 6_000)[:, None] * np.array([1.0, 0.0])
z = z + 0.1 * rng.normal(size=z.shape)
x = np.asarray(jax.vmap(decoder)(jnp.asarray(z, jnp.float32))) + 0.1 * rng.normal(size=z.shape)
train, val, test = map(Rows, np.split(x.astype(np.float32), 3))
encoder = MLPEncoder(2, 2, 64, key=jr.key(0))
own = Generator.from_function(decoder, (2,), noise=0.3, encoder=encoder)
steps = VAESettings(steps=250 if quick else 3_000, keep_decoder=True)
own, _ = fit_vae(own, train, val, steps, key=jr.key(1))
steps = TiltSettings(
    learner="nce+mle", nce_steps=250 if quick else 2_000, steps=20 if quick else 1_000,
    particles=256 if quick else 1_024, bank=5_000,
)  # fmt: skip
tilt = MLPTilt(2, width=64, key=jr.key(2))
tilt, _, _ = fit_tilt(Prior(own), tilt, train, val, steps, key=jr.key(3))

model = TiltedModel(Prior(own), tilt)
start = jr.normal(jr.key(4), (32, 2))
latent = sample(jr.key(5), model.latent_log_densities, start, num_draws=200, num_warmup=200)
log_z = log_normalizer(
    model, key=jr.key(6), draws=np.asarray(latent.positions), exact_draws=20_000,
    settings=LadderSettings(tolerance=0.3),
)  # fmt: skip
gain = likelihood(score(model, test, jr.key(7)), log_z).gain
print("mean gain of the bound, nats per row:", round(gain.mean, 3), [gain.low, gain.high])
ends = jnp.asarray(latent.positions)[:, -1]
print("where 32 chains of the tilted model ended, data units:")
print(np.round(np.asarray(jax.vmap(model.backbone.push)(ends)), 2))
