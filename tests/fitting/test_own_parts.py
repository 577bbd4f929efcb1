"""Parts of one's own: a flow, a network and a learner handed to `fit`, and what is saved."""

import json
import math
from dataclasses import dataclass, field, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import tiltflow
from tiltflow.backbones import CouplingFlow, Flow, Generator, Kept, Prior, fit_units
from tiltflow.backbones.units.bijections import Units
from tiltflow.backbones.units.scale import identity
from tiltflow.data import Dataset
from tiltflow.errors import InputError
from tiltflow.fitting.own_parts import OwnParts, chosen
from tiltflow.fitting.settings import ModelSettings, SamplingSettings, Settings, suited_to
from tiltflow.learning import BackboneSettings, Rows, TiltSettings, fit_tilt, population
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import NetworkSpec, of_parts, spec_from, specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import DataTilt, Frozen, NetworkTilt

SETTINGS = Settings(
    model=ModelSettings(units="standardise"),
    backbone=BackboneSettings(steps=250, batch=32, val_draws=1),
    tilt=TiltSettings(steps=30, particles=128, bank=500, rate=1e-2, judge_every=1),
    sampling=SamplingSettings(chains=16, draws=100, warmup=20, exact_draws=2_000),
)


class Stretched(Flow):
    """A flow of one's own: every coordinate shifted and stretched."""

    units: Units
    shift: jax.Array
    log_scale: jax.Array
    latent_shape: tuple[int, ...] = eqx.field(static=True)
    data_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, units, *, key):
        self.units = units
        self.latent_shape, self.data_shape = (math.prod(units.data_shape),), units.data_shape
        self.shift, self.log_scale = 0.1 * jr.normal(key, (2, *self.latent_shape))

    def coordinates(self, u):
        return u * jnp.exp(self.log_scale) + self.shift

    def inverse(self, y):
        return (y - self.shift) * jnp.exp(-self.log_scale), -jnp.sum(self.log_scale)


class Products(eqx.Module):
    """A network of one's own."""

    linear: eqx.nn.Linear

    def __init__(self, width=4):
        self.linear = eqx.nn.Linear(4, width, key=jr.key(0))

    def __call__(self, y):
        return jnp.sum(jax.nn.silu(self.linear(jnp.concatenate([y, y * jnp.roll(y, 1)]))))


@dataclass
class Counted:
    """A learner of one's own: the population's, which counts its stages."""

    settings: TiltSettings
    stages: list[int] = field(default_factory=list)

    def stage(self, state, *rest):
        self.stages.append(int(state.steps))
        return population.stage(state, *rest)


def rows(number=300):
    """Two clouds, far from the origin and of another scale."""
    rng = np.random.default_rng(0)
    sides = 2.0 * rng.choice([-1.0, 1.0], size=(number, 1)) + 0.5 * rng.normal(size=(number, 2))
    return (50.0 + 10.0 * sides).astype(np.float32)


@pytest.fixture(scope="module")
def learned():
    """A fit of which nothing is the library's, and its learner."""
    learner = Counted(SETTINGS.tilt)
    tilt = NetworkTilt(Products())
    result = tiltflow.fit(rows(), SETTINGS, backbone=Stretched, tilt=tilt, learner=learner)
    return result, learner


@pytest.fixture(scope="module")
def saved(learned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    learned[0].model.save(folder)
    return folder


def test_flow_network_and_learner_of_ones_own_are_learned(learned):
    result, learner = learned
    model = result.model.model
    assert isinstance(model.backbone, Stretched)
    assert isinstance(model.tilt, NetworkTilt)
    assert isinstance(model.tilt.network, Products)
    assert learner.stages[0] == 0
    assert sorted(learner.stages) == learner.stages
    begun = Stretched(model.backbone.units, key=jr.key(0))
    assert not eqx.tree_equal(begun.shift, model.backbone.shift)
    assert float(jnp.abs(model.tilt.gate)) > 0
    assert np.isfinite(result.metrics["tilted"]["nll_test"])
    mean = np.asarray(jax.vmap(model.backbone.push)(jr.normal(jr.key(1), (2_000, 2)))).mean(axis=0)
    assert np.all(np.abs(mean - rows().mean(axis=0)) < 5)  # in data units


def check_same(again, model):
    """Every array of one is that of the other."""
    assert eqx.tree_equal(again.model, model.model)
    np.testing.assert_array_equal(
        again.log_prob(rows(5), normalizer=0.0), model.log_prob(rows(5), normalizer=0.0)
    )


def test_what_was_saved_is_put_together_from_skeletons(learned, saved):
    model = learned[0].model
    assert model.own_parts == {"backbone": "Stretched", "tilt": "Products"}
    skeleton = NetworkTilt(eqx.tree_at(lambda p: p.linear.bias, Products(), jnp.ones(4)))
    check_same(tiltflow.load_model(saved, backbone=Stretched, tilt=skeleton), model)
    flow = Stretched(model.model.backbone.units, key=jr.key(9))  # an object will do, too
    check_same(tiltflow.load_model(saved, backbone=flow, tilt=skeleton), model)
    with pytest.raises(AssertionError):  # power: of the right sizes, and not what was saved
        check_same(replace(model, model=TiltedModel(flow, skeleton)), model)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, r"the backbone of this model is of a type of your own, 'Stretched'.*backbone=\.\.\."),
        ({"backbone": Stretched}, "the tilt of this model is of a type of your own, 'Products'"),
        (
            {"backbone": Stretched, "tilt": NetworkTilt(Products(5))},
            r"array 'tilt.network.linear.weight' is float32\[4, 4\]; expected float32\[5, 4\]",
        ),
        ({"backbone": 3, "tilt": NetworkTilt(Products())}, "the backbone is a int; expected a"),
    ],
    ids=["no parts", "no tilt", "another size", "no backbone"],
)
def test_what_is_missing_is_named(saved, parts, words):
    with pytest.raises(InputError, match=words):
        tiltflow.load_model(saved, **parts)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tilt": {"network": "mlp"}}, "the tilt's specification is"),
        ({"backbone": {"units": "whiten"}}, "the model's specification is"),
        ({"levels": -1}, "levels is -1"),
        ({"units": "magic"}, "units 'magic' of a saved model are unknown"),
        ({"more": 1}, "the model's specification is"),
        ({"data_shape": [10**9], "units": "whiten"}, "expected at most 100,000,000"),
    ],
)
def test_a_specification_that_is_none_is_refused(saved, wrong, words):
    values = json.loads((saved / "config.json").read_text())["model"] | wrong
    with pytest.raises(InputError, match=words):
        spec_from(values)


def fitted(model, spec=None):
    return FittedModel(model, spec, LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0), False, 0.3, 8)


def test_a_part_too_many_is_an_input_error(tmp_path):
    units = fit_units("standardise", rows())
    spec = specify(units, blocks=1, flow_width=4, tilt_width=4)
    whole = spec.build(units, key=jr.key(0))
    fitted(whole, spec).save(tmp_path)
    with pytest.raises(InputError, match="tilt is given, but no part of the model in"):
        tiltflow.load_model(tmp_path, tilt=Products())
    half = of_parts(TiltedModel(whole.backbone, NetworkTilt(Products())), spec)
    with pytest.raises(InputError, match="backbone is given, but this model's is of the library"):
        half.skeleton(Stretched, NetworkTilt(Products()))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_network_of_the_library_over_a_flow_of_ones_own(network, tmp_path):
    flow = Stretched(identity((4, 4)), key=jr.key(0))
    parts = OwnParts(flow, None if network == "mlp" else network)
    settings = ModelSettings(tilt_width=4)
    tilt, spec = parts.begin_tilt(flow, settings, key=jr.key(1))
    model = TiltedModel(flow, tilt)
    saved = fitted(model, parts.specification(model, None, spec))
    saved.save(tmp_path)
    assert saved.own_parts == {"backbone": "Stretched"}
    again = tiltflow.load_model(tmp_path, backbone=Stretched(identity((4, 4)), key=jr.key(2)))
    assert eqx.tree_equal(again.model, model)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_an_array_that_no_file_takes_is_named(tmp_path):
    class Random(eqx.Module):
        key: jax.Array

        def __call__(self, x):
            return jnp.sum(x)

    flow = Stretched(identity((2,)), key=jr.key(0))
    model = fitted(TiltedModel(flow, Random(jr.key(0))))
    with pytest.raises(
        InputError, match=r"array 'tilt\.function\.key' of the model is of type key"
    ):
        model.save(tmp_path)


def shifted(x):
    """f = -(x0 - 1)^2 / 2: over N(0, 1) log Z = -log(2)/2 - 1/4."""
    return -0.5 * (x[0] - 1.0) ** 2


def test_a_plain_function_is_f_as_it_is():
    """Its log Z is told by particles that have climbed to it; level and all stay."""
    flow = CouplingFlow(identity((2,)), num_blocks=1, width=4, key=jr.key(0))
    tilt, spec = OwnParts(tilt=shifted).begin_tilt(flow, ModelSettings(), key=jr.key(1))
    assert spec is None
    few = replace(SETTINGS.tilt, particles=512, bank=5_000)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    kept, judgement, state = fit_tilt(flow, tilt, Rows(x), Rows(x), few, key=jr.key(2))
    assert isinstance(kept, Frozen)
    assert isinstance(kept.tilt, DataTilt)
    assert float(kept(jnp.zeros(2))) == pytest.approx(-0.5)
    assert int(state.steps) == 0
    weights = np.exp(np.asarray(jax.vmap(kept)(jr.normal(jr.key(3), (few.particles, 2)))))
    error = weights.std() / weights.mean() / (few.particles / 2) ** 0.5  # of the witnesses alone
    truth = -0.5 * np.log(2) - 0.25
    assert error < 0.06
    assert abs(float(judgement.log_z) - truth) < 4 * error
    shifted_to_0 = float(judgement.log_z) + 0.375  # power: of f less its mean under the model
    assert abs(shifted_to_0 - truth) > 4 * error


NAMES = [("coupling", "mlp"), ("glow", "conv"), ("vae", "mlp")]


@pytest.mark.parametrize(("backbone", "tilt"), NAMES)
def test_names_choose_what_suits_them(backbone, tilt):
    settings, own = chosen(backbone, tilt, None, None, 1_000, (8, 8))
    assert settings == suited_to(backbone, 1_000, (8, 8))
    assert own == OwnParts()
    kept, _ = chosen(backbone, None, None, SETTINGS, 1_000, (8, 8))
    assert kept == replace(SETTINGS, model=replace(SETTINGS.model, backbone=backbone))


def test_a_learner_is_a_name_or_settings_or_an_object():
    persistent = TiltSettings.default("persistent")
    counted = Counted(TiltSettings(steps=7))
    for learner, settings, stage in (
        ("persistent", persistent, None),
        (persistent, persistent, None),
        (counted, counted.settings, counted.stage),
    ):
        found, own = chosen(None, None, learner, None, 100, (2,))
        assert found.tilt == settings
        assert own.stage == stage


def test_what_is_kept_and_what_is_learned():
    flow = CouplingFlow(identity((2,)), num_blocks=1, width=4, key=jr.key(0))
    generator = Generator.from_function(lambda z: z, (2,), noise=0.1)
    for backbone in (flow, Stretched):
        assert OwnParts(backbone).learns_backbone
    for backbone in (Kept(flow), generator, Prior(generator)):
        assert not OwnParts(backbone).learns_backbone
    assert OwnParts(Stretched).units is None
    assert OwnParts(Kept(flow)).units is flow.units


def over_a_pushforward():
    return Generator.from_function(lambda z: z, (2,))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"tilt": "cnn"}, "tilt 'cnn'; expected one of mlp, conv, classes, or an object"),
        ({"learner": "adam"}, "learner 'adam'; expected one of linear, nce"),
        ({"learner": 3}, "the learner is a int; expected a name"),
        (
            {"backbone": "resnet"},
            "backbone 'resnet'; expected one of coupling, ensemble, gaussian, glow, vae",
        ),
        ({"backbone": 3}, "the backbone is a int; expected a name, a tiltflow.backbones.Backbone"),
        ({"backbone": over_a_pushforward()}, "a generator without noise has no density"),
        (
            {"backbone": Stretched(identity((3,)), key=jr.key(0))},
            r"the backbone makes data of shape \(3,\); expected \(2,\)",
        ),
    ],
    ids=lambda x: None if isinstance(x, str) else next(iter(x)),
)
def test_what_is_no_part_is_an_input_error_before_any_learning(parts, words):
    with pytest.raises(InputError, match=words):
        tiltflow.fit(Dataset("clouds", rows(), False), SETTINGS, **parts)
