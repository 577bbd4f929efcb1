"""Contrast and linear tilt of an ensemble, one after the other, and each done once."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

from tiltflow.backbones import CouplingFlow, Ensemble, MixtureDensity, fit_units
from tiltflow.fitting import linear
from tiltflow.fitting.stages import Stages
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.early_stopping import silent
from tiltflow.learning.keeping import KeepsNothing
from tiltflow.model.specs import specify
from tiltflow.tilts import LinearTilt, MLPTilt

APART, WIDTH = 0.8, 0.25  # two bumps, which no power of normal densities has
SETTINGS = TiltSettings(
    learner="nce+linear", bank=8_000, nce_steps=750, batch_data=128, rate=3e-3, decay=0.01,
    memory=0.99,
)  # fmt: skip


class Keeps(KeepsNothing):
    """What was finished, in memory."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def finished(self, stage, like):
        return self.kept.get(stage)

    def finish(self, stage, tree, plain):
        self.kept[stage] = tree, plain


def bumps(rows, seed):
    rng = np.random.default_rng(seed)
    x = APART * rng.choice([-1, 1], rows) + WIDTH * rng.normal(size=rows)
    return x.astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def parts():
    """Half N(0, 1), the transport, and half N(0.5, 1); rows; and what they are made of."""
    units = fit_units("standardise", np.array([[-1.0], [1.0]], np.float32), integers=False)
    flow = CouplingFlow(units, num_blocks=0, width=1, key=jr.key(0))
    other = MixtureDensity(jnp.zeros(1), jnp.full((1, 1), 0.5), jnp.zeros((1, 1, 1)))
    ensemble = Ensemble(flow, (other,), jnp.log(jnp.array([0.5, 0.5])))
    train, val = (Rows(bumps(2_000, seed), units, integers=False) for seed in range(2))
    return ensemble, train, val, specify(units, blocks=0, components=1)


def learned(parts, network, keeper):
    ensemble, train, val, spec = parts
    return linear.learn_linear(
        Stages(keeper, {}), ensemble, network, LinearTilt.zero(ensemble), spec, train, val,
        SETTINGS, key=jr.key(1), listen=silent,
    )  # fmt: skip


def test_contrast_finds_what_no_product_of_members_has_and_is_learned_once(parts, monkeypatch):
    keeper, network = Keeps(), MLPTilt(1, width=16, depth=2, key=jr.key(2))
    _, plain, spec = learned(parts, None, Keeps())
    assert not spec.contrast  # power: what the members alone are worth
    tilt, judgement, spec = learned(parts, network, keeper)
    assert spec.linear
    assert spec.contrast
    assert float(judgement.gain_val) > float(plain.gain_val) + 0.2

    x = bumps(4_000, 2)
    log_q = np.logaddexp(norm.logpdf(x[:, 0]), norm.logpdf(x[:, 0], 0.5)) - np.log(2)
    log_p = np.logaddexp(*(norm.logpdf(x[:, 0], at, WIDTH) for at in (-APART, APART))) - np.log(2)
    f = np.asarray(jax.vmap(tilt)(jnp.asarray(x)), float) - float(judgement.log_z)
    assert np.mean(f) > float(plain.gain_val) + 0.2  # of other rows, too
    assert np.mean(log_p - log_q - f) > -0.05  # and no nearer than the truth
    assert np.mean(log_p - log_q - f) < 0.1

    monkeypatch.setattr(linear, "fit_nce", None)
    monkeypatch.setattr(linear, "fit_linear", None)
    again, *_ = learned(parts, network, keeper)
    assert again is tilt
