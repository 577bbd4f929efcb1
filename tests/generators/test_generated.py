"""What is looked at beside a generator's likelihood, where the truth is known."""

from dataclasses import replace

import jax
import jax.random as jr
import numpy as np
import pytest
from linear_gaussian import Z, case, generator

from tiltflow.backbones import Prior
from tiltflow.errors import InputError
from tiltflow.evaluation import generated
from tiltflow.evaluation.chains import FAR, SamplingSettings, fresh_chains
from tiltflow.evaluation.generated import agreement, classes_of, grouped, has_noise, look_at
from tiltflow.evaluation.quality.features import Features
from tiltflow.mcmc import sample
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.annealed import LadderSettings

CASE = case("z")
F_TEST = 1.5
ROWS = 2_000


@pytest.fixture(autouse=True)
def small_ladder(monkeypatch):
    """One round with few particles is enough where f is this small."""
    settings = LadderSettings(particles=1_024, least_rounds=1, most_rounds=1)
    monkeypatch.setattr(generated, "LADDER", settings)


def silent(phase, event, **fields):
    pass


@pytest.fixture(scope="module")
def model():
    return TiltedModel(Prior(generator()), CASE.of(slice(Z)))


@pytest.fixture(scope="module")
def draws(model):
    start = jr.normal(jr.key(0), (16, Z))
    return sample(jr.key(1), model.latent_log_densities, start, num_draws=200, num_warmup=100)


def told(log_z):
    return LogZ(log_z, 0.01, log_z - 0.02, log_z + 0.02, "bridge", 900.0, 800.0, True, "Fine.")


def data(key, tilted):
    """Means of the decoder at draws of the tilted z, or of the prior."""
    mean, covariance = CASE.tilted if tilted else CASE.backbone
    z = np.random.default_rng(key).multivariate_normal(mean[:Z], covariance[:Z, :Z], ROWS)
    return np.asarray(jax.vmap(generator().decoder)(z.astype(np.float32)))


def looked_at(model, draws, log_z, test):
    fitted = FittedModel(model, None, told(log_z), False, 0.3, 8)
    return look_at(
        fitted, draws, told(log_z), F_TEST, test, data(8, True), key=jr.key(2), listen=silent
    )


def test_bridge_and_annealing_tell_the_same_gain_or_the_check_fails(model, draws):
    found = looked_at(model, draws, CASE.log_z, data(7, True)[:10])
    block = found.metrics["annealed"]
    assert abs(block["gain"] - (F_TEST - CASE.log_z)) < 4 * block["log_z"]["standard_error"]
    assert block["gain_by_bridge"] == pytest.approx(F_TEST - CASE.log_z)
    assert found.checks[0].ok
    assert "quality" not in found.metrics  # 10 rows are too few
    wrong = looked_at(model, draws, CASE.log_z + 0.5, data(7, True)[:10])
    assert not wrong.checks[0].ok


def test_annealing_is_not_held_against_annealing():
    """The twin is a bridge of the same value, which is."""
    log_z = told(CASE.log_z)
    assert len(agreement(replace(log_z, method="bridge"), log_z)) == 1
    assert agreement(replace(log_z, method="ladder"), log_z) == []


def test_tilted_samples_are_nearer_to_data_that_the_tilted_model_has_made(model, draws):
    seen = looked_at(model, draws, CASE.log_z, data(7, True)).metrics["quality"]
    assert seen["tilted"]["frechet"] < 3 * seen["floor"]["frechet"] + 0.01
    assert seen["backbone"]["frechet"] > 0.2
    of_the_prior = looked_at(model, draws, CASE.log_z, data(7, False)).metrics["quality"]
    assert of_the_prior["backbone"]["frechet"] < 0.05  # power: it is the data that decide
    assert of_the_prior["tilted"]["frechet"] > 0.2


def test_classes_are_those_of_the_decoders_means(model):
    features = Features("sign", lambda x: x[:, :1], classify=lambda h: (h[:, 0] > 0).astype(int),
                        classes=("below", "above"))  # fmt: skip
    z = jr.normal(jr.key(3), (50, Z))
    number, labels = classes_of(model.backbone, features)
    assert number == 2
    np.testing.assert_array_equal(labels(z), np.asarray(jax.vmap(generator().decoder)(z))[:, 0] > 0)
    assert classes_of(model.backbone, replace(features, classify=None)) is None
    assert has_noise(generator())
    assert not has_noise(object())


def test_half_of_the_chains_may_start_far_out(model):
    settings = SamplingSettings(chains=400, draws=4, warmup=0, exact_draws=10, far=True)
    still = replace(settings, kernel="mala")
    for one in (settings, still):
        made = fresh_chains(model, one, jr.key(4), silent, step_size=1e-4)
        first = np.asarray(made.positions)[:, 0]
        near, far = (np.sqrt(np.mean(half**2)) for half in (first[:200], first[200:]))
        assert near == pytest.approx(1.0, abs=0.15)
        assert far == pytest.approx(FAR, abs=0.45)


@pytest.mark.parametrize(("chains", "groups"), [(64, 16), (16, 16), (20, 20), (48, 16), (4, 4)])
def test_chains_are_joined_to_few_groups(chains, groups):
    positions = np.arange(chains * 10 * 2).reshape(chains, 10, 2)
    found = grouped(positions)
    assert found.shape == (groups, chains * 10 // groups, 2)
    np.testing.assert_array_equal(found.ravel(), positions.ravel())


@pytest.mark.parametrize("change", [{"kernel": "gibbs"}, {"kernel": "auto"}, {"chains": 3}])
def test_settings_of_the_final_chains_are_checked(change):
    with pytest.raises(InputError, match="expected"):
        replace(SamplingSettings(), **change).check()
