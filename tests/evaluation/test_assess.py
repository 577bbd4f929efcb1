"""A likelihood with an interval for a sound model, and no number for a broken one."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import fit_units
from tiltflow.backbones.glow import Glow, GlowSizes
from tiltflow.data import Dataset
from tiltflow.errors import InputError
from tiltflow.evaluation import likelihood as of_likelihood
from tiltflow.evaluation.assess import LikelihoodSettings, assess
from tiltflow.evaluation.chains import SamplingSettings, suited_sampling
from tiltflow.evaluation.likelihood import Scores, likelihood, score
from tiltflow.evaluation.soundness import drawn, soundness
from tiltflow.fitting.settings import suited_glow
from tiltflow.learning import Rows
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.annealed import LadderSettings
from tiltflow.tilts import MLPTilt

NO_LOG_Z = LogZ(0.0, 0.0, 0.0, 0.0, method="none", ess_q=1.0, holds=True)
LEAPFROGS = 5
QUICK = LikelihoodSettings(
    sampling=SamplingSettings(chains=16, draws=400, warmup=200, exact_draws=20_000),
    ladder=LadderSettings(tolerance=1.0),  # what a bridge finds will do
)


@pytest.fixture(scope="module")
def fitted():
    """A Gaussian backbone in the plane and a random tilt of it."""
    x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    units = fit_units("standardise", x, integers=False)
    spec = specify(units, blocks=1, flow_width=4, tilt_width=16)
    tilt = spec.tilt(key=jr.key(1))
    weight = 1.5 * jr.normal(jr.key(2), tilt.layers[-1].weight.shape)
    tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, weight)
    model = TiltedModel(spec.flow(units, key=jr.key(0)), tilt)
    return FittedModel(model, spec, NO_LOG_Z, False, 0.3, LEAPFROGS)


@pytest.fixture(scope="module")
def rows():
    return Dataset("rows", np.random.default_rng(1).normal(size=(300, 2)).astype("f4"), False)


@pytest.fixture(scope="module")
def found(fitted, rows):
    return assess(fitted, rows, QUICK)


def exact_log_z(fitted):
    axis = np.linspace(-7, 7, 281)
    u = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), jnp.float32)
    log_mass = np.asarray(eqx.filter_jit(fitted.model.latent_log_densities)(u), float)
    return np.logaddexp.reduce(log_mass) - np.log(2 * np.pi) + 2 * np.log(axis[1] - axis[0])


def test_log_z_and_likelihood_are_those_of_quadrature(fitted, rows, found):
    truth = exact_log_z(fitted)
    assert abs(truth) > 0.1
    assert found["verdict"]["status"] != "failed"
    assert found["log_z"]["low"] - 0.02 <= truth <= found["log_z"]["high"] + 0.02
    assert found["log_z"]["lower"] <= truth <= found["log_z"]["upper"]
    log_p = fitted.log_prob(rows.values, normalizer=truth)
    assert found["tilted"]["nll"] == pytest.approx(-log_p.mean(), abs=0.03)
    assert found["tilted"]["bits_per_dim"] == pytest.approx(found["tilted"]["nll"] / np.log(4))


def test_the_gain_is_paired_and_its_parts_are_apart(found):
    gained, tilted = found["gain_nats"], found["tilted"]
    assert gained["mean"] == pytest.approx(found["backbone"]["nll"] - tilted["nll"])
    assert gained["se_log_z"] == tilted["se_log_z"] > 0
    assert found["backbone"]["se_log_z"] == 0
    assert tilted["low"] < tilted["nll"] < tilted["high"]


def test_a_normalizer_can_be_given(fitted, rows, found):
    known = LogZ.from_dict(found["log_z"])
    shifted = fitted.log_prob(rows.values) - fitted.log_prob(rows.values, normalizer=known)
    np.testing.assert_allclose(shifted, known.mean - fitted.log_z.mean, atol=1e-6)
    with pytest.raises(InputError, match="does not hold"):
        fitted.log_prob(rows.values, normalizer=replace(known, holds=False))
    with pytest.raises(InputError, match="log Z is nan"):
        fitted.log_prob(rows.values, normalizer=float("nan"))


def test_a_tilt_times_100_has_no_likelihood(fitted, rows):
    steep = eqx.tree_at(
        lambda m: m.tilt.layers[-1].weight, fitted.model, replace_fn=lambda w: 1e4 * w
    )
    few = replace(QUICK, ladder=LadderSettings(particles=128, most_rounds=1))
    found = assess(replace(fitted, model=steep), rows, few)
    assert found["verdict"]["status"] == "failed"
    assert found["log_z"]["mean"] is None
    assert found["tilted"]["nll"] is None
    assert found["backbone"]["nll"] is not None


def collapsed(fitted):
    """A backbone whose data lie on a line: the units lead one coordinate nowhere."""
    return eqx.tree_at(
        lambda m: m.backbone.units.matrix, fitted.model, replace_fn=lambda a: a.at[1].set(0.0)
    )


def test_a_backbone_with_a_collapsed_dimension_has_no_likelihood(fitted, rows):
    found = assess(replace(fitted, model=collapsed(fitted)), rows, QUICK)
    assert found["verdict"]["status"] == "failed"
    assert "round trip" in found["verdict"]["text"]
    assert found["backbone"]["nll"] is None
    assert found["tilted"]["nll"] is None


def test_weights_that_are_not_numbers_have_no_likelihood(fitted, rows):
    broken = eqx.tree_at(lambda m: m.tilt.layers[0].weight, fitted.model, replace_fn=jnp.log)
    found = assess(replace(fitted, model=broken), rows, QUICK)
    assert found["verdict"]["status"] == "failed"
    assert found["tilted"]["nll"] is None


def test_a_sound_model_passes_every_check_of_soundness(fitted):
    assert all(check.ok for check in soundness(fitted.model, drawn(fitted.model, jr.key(0))))


def test_the_importance_bound_is_tighter_and_exact_without_noise():
    rng = np.random.default_rng(0)
    scores = Scores(f=rng.normal(size=(50, 20)), log_q=rng.normal(size=(50, 20)))
    loose, tight = (likelihood(scores, NO_LOG_Z, bound) for bound in ("variational", "importance"))
    assert tight.tilted.mean < loose.tilted.mean
    assert tight.backbone.mean < loose.backbone.mean
    same = Scores(f=np.repeat(scores.f[:, :1], 20, 1), log_q=np.repeat(scores.log_q[:, :1], 20, 1))
    loose, tight = (likelihood(same, NO_LOG_Z, bound) for bound in ("variational", "importance"))
    assert tight.tilted.mean == pytest.approx(loose.tilted.mean)


def test_bits_are_nats_over_log_2_and_the_dimension():
    assert of_likelihood.bits_per_dim(3 * 64 * np.log(2), 64) == pytest.approx(3.0)


def test_scores_are_those_of_all_draws_without_their_memory():
    x = np.random.default_rng(2).integers(0, 9, size=(1_500, 64)).astype(np.float32)
    units = fit_units("standardise", x, integers=True)
    spec = specify(units, blocks=1, flow_width=4, tilt_width=16)
    model = TiltedModel(spec.flow(units, key=jr.key(0)), spec.tilt(key=jr.key(1)))
    weight = jr.normal(jr.key(2), model.tilt.layers[-1].weight.shape)
    model = eqx.tree_at(lambda m: m.tilt.layers[-1].weight, model, weight)
    rows, draws = Rows(jnp.asarray(x), units, integers=True), 20
    y, log_det = rows.every(jr.key(3), draws)
    f = jax.jit(lambda y: jax.vmap(jax.vmap(model.tilt))(y))(y)
    log_q = jax.jit(lambda y: jax.vmap(jax.vmap(model.backbone.log_prob_coordinates))(y))(y)
    scores = score(model, rows, jr.key(3), draws)
    assert scores.f.shape == scores.log_q.shape == (1_500, draws)
    np.testing.assert_allclose(scores.f, f, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores.log_q, log_q + log_det, rtol=1e-4, atol=1e-3)
    keys = rows.keys(jr.key(3), draws)
    lowered = eqx.filter_jit(of_likelihood._score).lower(model, rows.through(model.backbone), keys)
    assert lowered.compile().compiled.memory_analysis().temp_size_in_bytes < y.nbytes / 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LikelihoodSettings(bound="exact"), "bound 'exact'; expected variational or importance"),
        (LikelihoodSettings(budget=0.0), "the budget is 0.0 s"),
        (LikelihoodSettings(dequantisations=0), "dequantisations is 0"),
        (LikelihoodSettings(ladder=LadderSettings(at_once=-1)), "at_once is -1"),
        (LikelihoodSettings(ladder=LadderSettings(most_rounds=0)), "most_rounds is 0"),
        (LikelihoodSettings(ladder=LadderSettings(share=1.0)), "share is 1.0"),
        (LikelihoodSettings(sampling=SamplingSettings(draws=1)), "1 draws"),
    ],
)
def test_settings_that_cannot_work_are_input_errors(fitted, rows, settings, expected):
    with pytest.raises(InputError, match=expected):
        assess(fitted, rows, settings)


def test_a_glow_is_judged_by_as_few_chains_as_a_fit_makes(fitted):
    units = fit_units(
        "standardise", np.random.default_rng(0).normal(size=(50, 4, 4)), integers=False
    )
    flow = eqx.filter_eval_shape(Glow, units, GlowSizes(steps=1, width=4), key=jr.key(0))
    dear = suited_sampling(TiltedModel(flow, MLPTilt(16, width=4, key=jr.key(1))))
    assert (dear.chains, dear.draws) == (16, 400)
    assert dear == replace(suited_glow(60_000, (28, 28)).sampling, leapfrogs=8, calibrate=False)
    assert suited_sampling(fitted.model).draws == 1_500


def test_chains_move_by_the_models_own_number_of_leapfrogs(found):
    assert QUICK.sampling.leapfrogs != LEAPFROGS
    assert found["mixing"]["leapfrogs"] == LEAPFROGS
