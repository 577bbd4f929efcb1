"""A fit whose backbone is an ensemble: told against its members, saved, and loaded again."""

import json

import jax
import numpy as np
import pytest

import tiltflow
from tiltflow.backbones import Ensemble
from tiltflow.errors import InputError
from tiltflow.fitting.settings import ModelSettings, SamplingSettings, Settings
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.learning.fit_members import MemberSettings
from tiltflow.model.specs import spec_from

SETTINGS = Settings(
    model=ModelSettings(
        backbone="ensemble",
        units="standardise",
        blocks=1,
        flow_width=16,
        tilt_width=16,
        tilt_depth=1,
    ),
    backbone=BackboneSettings(steps=250),
    members=MemberSettings(mixtures=2, flows=1, width=8, depth=1, steps=250, batch=64),
    tilt=TiltSettings(
        steps=40, particles=512, batch_particles=128, bank=1_000, judge_every=1, check_every=10
    ),
    sampling=SamplingSettings(chains=8, draws=200, warmup=20, exact_draws=4_000),
)


def clusters(rows, seed):
    """Four clusters that lie on a bent line: a mixture is ahead of a coupling flow."""
    rng = np.random.default_rng(seed)
    centres = np.array([[-6.0, 3.0], [-2.0, -3.0], [2.0, 3.0], [6.0, -3.0]])
    return (centres[rng.integers(4, size=rows)] + 0.5 * rng.normal(size=(rows, 2))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def result():
    return tiltflow.fit(clusters(900, 0), SETTINGS)


def test_it_is_ahead_of_its_transport_and_near_the_truth(result):
    backbone = result.model.model.backbone
    assert isinstance(backbone, Ensemble)
    assert len(backbone.members) == 2
    x = clusters(2_000, 1)
    alone = np.asarray(jax.jit(jax.vmap(backbone.transport.log_prob))(x)).mean()
    found = result.model.backbone_log_prob(x).mean()
    truth = -np.log(4) - np.log(2 * np.pi * 0.25) - 1
    assert found > alone + 0.2
    assert abs(found - truth) < 0.1


def test_what_is_told_of_the_backbone_is_of_the_whole(result):
    metrics = result.metrics
    assert metrics["simple_models"]["gaussian"]["ahead_low"] > 0.3
    assert abs(metrics["gain_nats"]["mean"]) < 0.1  # over the ensemble, not over its transport
    assert metrics["log_z"]["holds"]
    assert metrics["mixing"]["rhat_max"] < 1.05  # each transition is a fresh draw


def test_it_is_saved_and_loaded(result, tmp_path):
    result.model.save(tmp_path)
    again = tiltflow.load_model(tmp_path)
    x = clusters(50, 2)
    np.testing.assert_array_equal(again.log_prob(x), result.model.log_prob(x))
    drawn, _ = again.sample(chains=4, draws=20, warmup=5)
    assert drawn.shape == (4, 20, 2)
    config = json.loads((tmp_path / "config.json").read_text())["model"]
    assert config["components"] > 1
    for name, wrong in (("bases", "4"), ("bases", [0]), ("components", -1), ("base", 1)):
        with pytest.raises(InputError, match=name):
            spec_from({**config, name: wrong})
