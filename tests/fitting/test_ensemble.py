"""A fit whose backbone is an ensemble: told against its members, saved, and loaded again."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import tiltflow
from tiltflow.backbones import Ensemble, fit_units
from tiltflow.backbones.cells import Cells
from tiltflow.errors import InputError
from tiltflow.evaluation.diagnose import DiagnoseSettings, diagnose
from tiltflow.fitting.settings import ModelSettings, SamplingSettings, Settings
from tiltflow.learning import BackboneSettings, Rows, TiltSettings
from tiltflow.learning.fit_members import (
    MemberSettings,
    begin_flow,
    fit_mixtures,
    together,
    weighed,
)
from tiltflow.learning.gaussian_start import at_normal
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import spec_from, specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import LinearTilt

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


TRUTH = -np.log(4) - np.log(2 * np.pi * 0.25) - 1  # nats, on average


def clusters(rows, seed):
    """Four clusters that lie on a bent line: a mixture is ahead of a coupling flow."""
    rng = np.random.default_rng(seed)
    centres = np.array([[-6.0, 3.0], [-2.0, -3.0], [2.0, 3.0], [6.0, -3.0]])
    return (centres[rng.integers(4, size=rows)] + 0.5 * rng.normal(size=(rows, 2))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def learned():
    """An ensemble of two mixtures and a flow that is not learned, on a transport that is not."""
    rows = [Rows(clusters(900, seed), units=None, integers=False) for seed in (0, 3)]
    units = fit_units("standardise", rows[0].array(), integers=False)
    rows = [replace(some, units=units) for some in rows]
    spec = specify(units, blocks=1, flow_width=8, tilt_width=8, tilt_depth=1, base=True)
    transport = at_normal(spec.flow(units, key=jr.key(0)), *rows, key=jr.key(1))
    mixtures = [one.result() for one in fit_mixtures(*rows, SETTINGS.members, key=jr.key(2))]
    flow = begin_flow(mixtures[0], SETTINGS.members, key=jr.key(3))
    backbone, nll = weighed(transport, (together(mixtures), flow), rows[1], key=jr.key(4))
    spec = replace(
        spec,
        components=sum(len(m.means) for m in mixtures),
        bases=(len(mixtures[0].means),),
        member_width=8,
        member_depth=1,
    )
    return backbone, nll, spec


def mean_log_prob(flow, x):
    return np.asarray(jax.jit(jax.vmap(flow.log_prob))(x)).mean()


def test_members_are_ahead_of_their_transport_and_near_the_truth(learned):
    backbone, nll, _ = learned
    x = clusters(2_000, 1)
    found = mean_log_prob(backbone, x)
    assert abs(found - TRUTH) < 0.1
    assert abs(found + nll) < 0.1
    assert mean_log_prob(backbone.transport, x) < found - 1
    assert np.exp(backbone.log_weights[0]) < 0.05  # what explains nothing has no weight
    even = eqx.tree_at(lambda b: b.log_weights, backbone, jnp.log(jnp.full(3, 1 / 3)))
    assert mean_log_prob(even, x) < found - 0.1  # power of the weights


def test_a_model_on_them_is_saved_and_loaded(learned, tmp_path):
    backbone, _, spec = learned
    tilted = TiltedModel(backbone, spec.tilt(key=jr.key(5)))
    model = FittedModel(tilted, spec, LogZ(0, 0, 0, 0, "none", 1e3, holds=True), False, 0.1, 4)
    model.save(tmp_path)
    again = tiltflow.load_model(tmp_path)
    x = clusters(50, 2)
    np.testing.assert_array_equal(again.log_prob(x), model.log_prob(x))
    network = spec.tilt(key=jr.key(6))
    weights = jnp.linspace(-0.2, 0.2, 5 + backbone.number_of_kinds)
    linear = LinearTilt(backbone, weights, 0.1, ceiling=2.0, network=network, kinds=True)
    of_both = replace(spec, linear=True, contrast=True, kinds=True)
    model = replace(model, model=TiltedModel(backbone, linear), spec=of_both)
    model.save(tmp_path / "linear")
    again = tiltflow.load_model(tmp_path / "linear")
    np.testing.assert_array_equal(again.log_prob(x), model.log_prob(x))
    few = DiagnoseSettings(chains=8, draws=50, warmup=5, exact_draws=500)
    told = diagnose(again, None, few)
    assert "data_space" not in told["coverage"]
    assert any("gradient of all members is dear" in note for note in told["notes"])
    config = json.loads((tmp_path / "config.json").read_text())["model"]
    for name, wrong in (
        ("bases", "4"),
        ("bases", [0]),
        ("components", -1),
        ("base", 1),
        ("cells", [1, 2]),
        ("cells", [2, 8, 1, 8]),
        ("cells", "none"),
        ("copula", [3, 8]),
        ("copula", "none"),
    ):
        with pytest.raises(InputError, match=name):
            spec_from({**config, name: wrong})


def test_members_of_columns_in_cells_are_built_again_in_the_same_shapes():
    spec = replace(
        specify(fit_units("standardise", clusters(50, 0), integers=False)),
        components=1,
        bases=(1,),
        cells=(0, 8, 1, 17),
        copula=(1, 8),
    )
    spec.check()
    again = spec_from(spec.to_dict())
    assert again == spec
    _, flow, copula = again.members(key=jr.key(0))
    assert copula.cells.low.shape == (1, 9)
    assert copula.mean.shape == (1,)
    told = Cells.between([np.array([-1.0, 0.0, 1.0])])
    assert told.ends.shape == (1, 8)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(told))  # else no run can be loaded
    assert flow.few.ends.shape == (1, 17)
    assert flow.many.ends.shape == (0, 8)
    assert flow.base.means.shape == (1, 1)


@pytest.fixture(scope="module")
def result():
    return tiltflow.fit(clusters(900, 0), SETTINGS)


@pytest.mark.slow
def test_a_whole_fit_tells_of_the_ensemble_and_not_of_its_transport(result):
    backbone = result.model.model.backbone
    assert isinstance(backbone, Ensemble)
    x = clusters(2_000, 1)
    found = result.model.backbone_log_prob(x).mean()
    assert found > mean_log_prob(backbone.transport, x) + 0.2
    assert abs(found - TRUTH) < 0.1
    metrics = result.metrics
    assert metrics["simple_models"]["gaussian"]["ahead_low"] > 0.3
    assert abs(metrics["gain_nats"]["mean"]) < 0.1  # over the ensemble, not over its transport
    assert metrics["log_z"]["holds"]
    assert metrics["mixing"]["rhat_max"] < 1.05  # each transition is a fresh draw
    drawn, _ = result.model.sample(chains=4, draws=20, warmup=5)
    assert drawn.shape == (4, 20, 2)


def test_an_ensemble_of_too_many_numbers_or_no_mixture_is_refused():
    x = np.random.default_rng(0).normal(size=(60, 513)).astype(np.float32)
    quick = replace(SETTINGS, model=replace(SETTINGS.model, flow_width=2, tilt_width=2))
    with pytest.raises(InputError, match="an ensemble of 513 numbers a row; expected at most 512"):
        tiltflow.fit(x, quick)
    with pytest.raises(InputError, match="mixtures is 0"):
        tiltflow.fit(x, replace(quick, members=MemberSettings(mixtures=0, flows=0)))
