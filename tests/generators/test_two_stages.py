"""A tilt of the latent, then one of the data on top: where it starts, how it jumps, a whole fit."""

import json
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from broken_jumps import FORGETS, SOUND, counted
from linear_gaussian import X, Z, case, generator

import tiltflow
from tiltflow.backbones import Prior
from tiltflow.backbones.vae import VAESizes
from tiltflow.data import Dataset, load
from tiltflow.errors import InputError
from tiltflow.evaluation import by_stage, generated
from tiltflow.evaluation.by_stage import gains_by_stage
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.evaluation.likelihood import score
from tiltflow.fitting import judging
from tiltflow.fitting.settings import ModelSettings, Settings, suited_vae
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.fit_vae import VAESettings
from tiltflow.learning.second_tilt import second_start
from tiltflow.learning.witnesses import Judgement
from tiltflow.mcmc import HMC, ISIR, Independence, Mixture, sample
from tiltflow.model.log_normalizer import log_normalizer
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.annealed import LadderSettings
from tiltflow.tilts import Frozen, MixtureTilt, MLPTilt, OfLatent, Sum, WithNoise

LATENT, DATA, BOTH = case("z"), case("x"), case("both")
JUDGED = Judgement.nothing()


def gaussian_mixture() -> MixtureTilt:
    """The tilted z of `LATENT`, which is normal, as a mixture of one component."""
    mean, covariance = (part[:Z] if part.ndim == 1 else part[:Z, :Z] for part in LATENT.tilted)
    factor = np.linalg.cholesky(np.linalg.inv(covariance)[::-1, ::-1])[::-1, ::-1]
    return MixtureTilt(jnp.zeros(1), jnp.asarray(mean)[None], jnp.asarray(factor)[None])


def silent(phase, event, **fields):
    pass


def check_moments(u: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Means and second moments of independent draws, within 4.5 standard errors."""
    away = u - mean
    assert np.all(np.abs(away.mean(0)) < 4.5 * away.std(0) / np.sqrt(len(u)))
    products = away[:, :, None] * away[:, None]
    error = products.std(0) / np.sqrt(len(u))
    assert np.all(np.abs(products.mean(0) - covariance) < 4.5 * error)


@eqx.filter_jit
def coordinates(backbone, u):
    return jax.vmap(backbone.coordinates)(u)


def started(first, number=8_000) -> np.ndarray:
    found = second_start(jr.key(0), Prior(generator()), first, JUDGED, number)
    return np.asarray(jax.vmap(generator().coordinates)(found.u), np.float64)


def test_a_second_tilt_starts_in_equilibrium():
    """Of z and x together; from the mixture, and up the ladder where there is none."""
    network = MLPTilt(Z, width=4, key=jr.key(1))
    of_mixture = Sum(Frozen(gaussian_mixture()), network)
    truth = LATENT.tilted
    check_moments(started(of_mixture), *truth)
    check_moments(started(LATENT.of(slice(Z))), *truth)
    with pytest.raises(AssertionError):
        check_moments(started(network), *truth)  # power: draws of the prior


def check_jumps(kind: type[Independence] | type[ISIR], proposal: WithNoise, share: float) -> None:
    """Moments of many short chains that start in equilibrium at `BOTH` without its tilt of x."""
    model = TiltedModel(generator(), BOTH.tilt)
    start = draw(proposal, jr.key(2), 256)
    mixed = Mixture((HMC(num_leapfrogs=5), kind(proposal=counted(proposal, share))), cycle=(0, 1))
    draws = sample(
        jr.key(3), model.latent_log_densities, start, num_draws=40, num_warmup=40,
        kernel=mixed, step_size=0.3, thin=1,
    )  # fmt: skip
    c = coordinates(model.backbone, draws.positions.reshape(-1, Z + X))
    c = np.asarray(c, np.float64).reshape(draws.positions.shape)
    mean, covariance = BOTH.tilted
    away = (c - mean).mean(axis=1)
    assert np.all(np.abs(away.mean(0)) < 4.5 * away.std(0) / np.sqrt(len(c)))
    products = np.einsum("cdi,cdj->cij", c - mean, c - mean) / c.shape[1] - covariance
    assert np.all(np.abs(products.mean(0)) < 4.5 * products.std(0) / np.sqrt(len(c)))


@eqx.filter_jit
def draw(proposal, key, number):
    return proposal.draw(key, number)


@pytest.mark.parametrize("kind", [pytest.param(Independence, marks=pytest.mark.slow), ISIR])
def test_jumps_in_z_keep_the_noise_and_the_target(kind):
    """`Independence` in the first tier: in `tilts/test_mixture.py`."""
    proposal = WithNoise(gaussian_mixture(), generator().dim)
    u = draw(proposal, jr.key(4), 256)
    renewed = np.asarray(eqx.filter_jit(proposal.renew)(jr.key(5), u))
    np.testing.assert_array_equal(renewed[:, Z:], u[:, Z:])
    assert np.all(renewed[:, :Z] != u[:, :Z])
    check_jumps(kind, proposal, SOUND)
    with pytest.raises(AssertionError):
        check_jumps(kind, proposal, FORGETS)


def test_the_mixture_is_found_inside_the_tilt_of_z():
    mixture, network = gaussian_mixture(), MLPTilt(Z, width=4, key=jr.key(1))
    of_z = OfLatent(Sum(Frozen(mixture), network), Z)
    model = TiltedModel(generator(), Sum(Frozen(of_z), DATA.tilt))
    assert isinstance(model.mixture, WithNoise)
    assert model.mixture.mixture is mixture
    assert TiltedModel(generator(), Sum(of_z, DATA.tilt)).mixture is None  # it is learned further
    assert TiltedModel(generator(), DATA.tilt).mixture is None


@pytest.fixture
def by_bridge(monkeypatch):
    """The ladder has tests of its own: bounds as far apart as those of a bridge will do here."""
    one = partial(log_normalizer, settings=LadderSettings(tolerance=10.0))
    for module in (by_stage, judging):
        monkeypatch.setattr(module, "log_normalizer", one)


@pytest.mark.usefixtures("by_bridge")
def test_each_tilt_gets_the_gain_that_it_has():
    """Held-out rows of the tilted model: what both tilts gain is known, and what the first does."""
    c = np.random.default_rng(0).multivariate_normal(*BOTH.tilted, 1_000)
    x = c[:, Z:].astype(np.float32)
    rows = Rows(jnp.asarray(x), generator().units, False)
    first = TiltedModel(Prior(generator()), LATENT.of(slice(Z)))
    whole = TiltedModel(generator(), Sum(OfLatent(LATENT.of(slice(Z)), Z), DATA.tilt))
    scores = score(whole, rows, jr.key(1))
    truth = case("z")
    log_z = LogZ(0.7, 0.01, 0.68, 0.72, "bridge", 900.0, 800.0, True, "Fine.")
    sampling = SamplingSettings(chains=16, draws=200, warmup=100, exact_draws=10_000)
    found = gains_by_stage(
        first, rows, scores, log_z, sampling, keys=(jr.key(1), jr.key(2)), listen=silent
    )
    f_first = score(first, rows, jr.key(1)).f
    assert abs(found.latent.mean - (f_first.mean() - truth.log_z)) < 4 * found.latent.se_estimator
    whole_gain = scores.f.mean() - log_z.mean
    assert found.latent.mean + found.data.mean == pytest.approx(whole_gain, abs=1e-4)
    assert found.data.se_estimator > found.latent.se_estimator  # that of both
    told = found.to_dict()
    assert told["latent"]["mean"] == found.latent.mean
    unsure = replace(found, data=replace(found.data, holds=False)).to_dict()
    assert unsure["data"] == {"mean": None, "low": None, "high": None}
    assert unsure["latent"] == told["latent"]


def clouds() -> Dataset:
    """Two clouds in the plane."""
    chance = np.random.default_rng(0)
    x = chance.choice([-2.0, 2.0], size=(600, 1)) + chance.normal(size=(600, 2))
    return Dataset("clouds", x.astype(np.float32), integers=False)


@pytest.fixture(scope="module")
def settings() -> Settings:
    quick = {"particles": 64, "batch_data": 64, "batch_particles": 64, "bank": 500}
    tilt = TiltSettings(steps=20, judge_every=1, leapfrogs=3, **quick)
    return replace(
        Settings(),
        model=ModelSettings(
            backbone="vae", vae=VAESizes(z_dim=3, width=16, channels=2, network="mlp"),
            components=4, tilt_width=8, tilt_dropout=0.0, data_width=8,
        ),
        vae=VAESettings(steps=250),
        tilt=tilt,
        data_tilt=replace(tilt, rate=3e-3, judge_rows=200),
        sampling=SamplingSettings(chains=16, draws=100, warmup=20, leapfrogs=3, exact_draws=4_000),
    )  # fmt: skip


@pytest.mark.usefixtures("by_bridge")
@pytest.mark.parametrize(
    ("data", "network"),
    [("table", "mlp"), ("digits", "conv")],
)
@pytest.mark.slow
def test_a_fit_in_two_stages_tells_both_gains_and_the_noise(
    settings, data, network, tmp_path, monkeypatch
):
    """With a smaller ladder beside its bridge, at which `test_generated.py` looks.

    The first tier has its parts: how the second tilt starts, and the gain of each.
    """
    data = clouds() if data == "table" else load(data)
    monkeypatch.setattr(generated, "LADDER", replace(generated.LADDER, most_rounds=1))
    monkeypatch.setattr(generated, "FEWER", 128)
    vae = replace(settings.model.vae, network=network)
    settings = replace(settings, model=replace(settings.model, vae=vae))
    told = []
    result = tiltflow.fit(
        data, settings, listen=lambda phase, event, **fields: told.append((phase, event))
    )
    metrics = result.metrics
    stages = metrics["stages"]
    assert stages["latent"]["mean"] + stages["data"]["mean"] == pytest.approx(
        metrics["gain_nats"]["mean"], abs=1e-3
    )
    assert metrics["noise"]["tilted"] != metrics["noise"]["backbone"]
    assert {"backbone", "tilt", "data_tilt", "sampling", "total"} == set(metrics["seconds"])
    assert ("data_tilt", "stage") in told
    result.model.save(tmp_path)
    x = data.values[:5]
    again = tiltflow.load_model(tmp_path).log_prob(x, draws=2)
    np.testing.assert_array_equal(again, result.model.log_prob(x, draws=2))
    assert json.loads((tmp_path / "config.json").read_text())["model"]["data_width"] == 8


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data_width": -1}, "data_width is -1; expected 0 for no second tilt, or a width"),
        ({"backbone": "coupling", "data_width": 8}, "whose tilt reads the data anyway"),
    ],
)
def test_a_second_tilt_that_cannot_be_is_an_input_error(change, expected):
    settings = suited_vae(10_000, (28, 28))
    with pytest.raises(InputError, match=expected):
        replace(settings, model=replace(settings.model, **change)).check(0)
    second = replace(settings.data_tilt, learner="nce")
    with pytest.raises(InputError, match="learner 'nce' of the second tilt"):
        replace(settings, data_tilt=second).check(0)
