"""A VAE is learned by its bound, saved and loaded, and refused where its folder is not one."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_gaussian import Z, case, generator, linear

from tiltflow.backbones import Generator, Prior, fit_units
from tiltflow.backbones.networks import MLPEncoder
from tiltflow.backbones.units.scale import fit_scale
from tiltflow.backbones.vae import VAESizes, make_vae
from tiltflow.errors import InputError
from tiltflow.fitting.recipes import begin_backbone, specification
from tiltflow.fitting.settings import ModelSettings
from tiltflow.learning import Rows
from tiltflow.learning.fit_vae import VAESettings, fit_vae, negative_bound
from tiltflow.model.fitted import FittedModel
from tiltflow.model.loading import load_model
from tiltflow.model.specs import VAESpec, specify_vae
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ

LOG_Z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")
SIZES = VAESizes(z_dim=Z, width=24, floor=0.01)
QUICK = VAESettings(steps=1_500, batch=128, rate=5e-3, memory=0.99)


def silent(phase, event, **fields):
    pass


@pytest.fixture(scope="module")
def rows():
    """Training and validation rows of probabilistic PCA."""
    backbone = generator()
    x = np.asarray(jax.vmap(backbone.push)(jr.normal(jr.key(0), (6_000, *backbone.latent_shape))))
    units = fit_units("standardise", x[:5_000], integers=False)
    return [Rows(jnp.asarray(part), units, False) for part in (x[:5_000], x[5_000:])]


def truth(rows: Rows) -> float:
    return -float(case("x").log_q(np.asarray(rows.array(), np.float64)).mean())


def test_the_bound_comes_near_the_likelihood_and_stays_below(rows):
    train, val = rows
    vae = make_vae(train.units, SIZES, key=jr.key(1))
    before = float(negative_bound(Prior(vae), val, jr.key(2)))
    learned, nll = fit_vae(vae, train, val, QUICK, key=jr.key(3), listen=silent)
    assert -0.03 < nll - truth(val) < 0.15
    assert before - truth(val) > 0.5  # power
    from_both = [float(negative_bound(b, val, jr.key(4))) for b in (learned, Prior(learned))]
    np.testing.assert_allclose(from_both, nll, atol=0.05)


def test_a_decoder_of_ones_own_gets_an_encoder(rows):
    """The decoder is kept as it is; the bound becomes that of a good encoder."""
    train, val = rows
    own = Generator.from_function(
        linear,
        (Z,),
        noise=0.8,
        units=train.units,
        encoder=MLPEncoder(3, Z, 24, key=jr.key(5)),
    )
    settings = replace(QUICK, keep_decoder=True)
    learned, nll = fit_vae(own, train, val, settings, key=jr.key(6), listen=silent)
    assert nll - truth(val) < 0.15
    assert nll < float(negative_bound(own, val, jr.key(7))) - 0.2
    assert eqx.tree_equal(learned.decoder, own.decoder)


def saved(folder, network="mlp", data_width=0) -> tuple[FittedModel, np.ndarray]:
    """A model that is not zero, on disk in `folder`."""
    x = np.random.default_rng(0).integers(0, 9, (40, 8, 8)).astype(np.float32)
    sizes = replace(SIZES, network=network, channels=2, width=8)
    spec = specify_vae(fit_scale(x, integers=True), sizes, tilt_width=8, data_width=data_width)
    vae = spec.generator(fit_scale(x, integers=True), key=jr.key(1))
    tilt = spec.tilt(key=jr.key(2))
    tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, replace_fn=lambda w: w + 0.3)
    if data_width:
        model = TiltedModel(vae, spec.second_tilt(tilt, key=jr.key(3)))
    else:
        model = TiltedModel(Prior(vae), tilt)
    fitted = FittedModel(model, spec, LOG_Z, True, 0.5, 4)
    fitted.save(folder)
    return fitted, x


@pytest.mark.parametrize(("network", "data_width"), [("mlp", 0), ("conv", 0), ("mlp", 8)])
def test_what_is_saved_is_what_is_loaded(tmp_path, network, data_width):
    fitted, x = saved(tmp_path, network, data_width)
    again = load_model(tmp_path)
    assert again.spec == fitted.spec
    np.testing.assert_array_equal(again.log_prob(x[:5], draws=2), fitted.log_prob(x[:5], draws=2))
    u = np.random.default_rng(1).normal(size=(6, *fitted.model.backbone.latent_shape))
    drawn = again.push(u.astype(np.float32))
    np.testing.assert_array_equal(drawn, fitted.push(u.astype(np.float32)))
    assert drawn.shape == (6, 8, 8)
    assert np.all((drawn >= 0) & (drawn <= 8) & (drawn == np.floor(drawn)))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"kind": "diffusion"}, "the model is of kind 'diffusion'; expected 'vae'"),
        ({"z_dim": 0}, "z_dim is 0; expected a whole number >= 1"),
        ({"width": 10**8}, "parameters; expected at most"),
        ({"network": "transformer"}, "network 'transformer' of a saved model is unknown"),
        ({"surprise": 1}, "expected units, data_shape and otherwise only"),
        ({"floor": -1.0}, "floor is -1.0; expected a number in"),
        ({"z_dim": 3}, "does not fit|expected float32"),
    ],
    ids=["kind", "z", "large", "network", "key", "floor", "other"],
)
def test_damaged_folders_are_refused(tmp_path, wrong, expected):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"] |= wrong
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=expected):
        load_model(tmp_path)


def test_a_generator_of_ones_own_is_saved_and_put_together_again(tmp_path):
    model = TiltedModel(generator(), case("both").tilt)
    fitted = FittedModel(model, None, LOG_Z, False, 0.5, 4)
    fitted.save(tmp_path)
    assert set(fitted.own_parts) == {"backbone", "tilt"}
    with pytest.raises(InputError, match="the backbone of this model is of a type of your own"):
        load_model(tmp_path)
    empty = jax.tree.map(lambda x: 0 * x if eqx.is_inexact_array(x) else x, model)
    again = load_model(tmp_path, backbone=empty.backbone, tilt=empty.tilt)
    assert eqx.tree_equal(again.model, model)
    assert not eqx.tree_equal(empty, model)  # power


def test_one_is_begun_as_fit_begins_it():
    """Within one program: nothing in it may ask for numbers."""
    x = np.random.default_rng(0).normal(size=(50, 4))
    units = fit_scale(x, integers=False, limits=(float(x.min()), float(x.max())))
    model = ModelSettings(backbone="vae", vae=VAESizes(z_dim=2, width=8, noise=0.3))
    begun = begin_backbone(specification(model, units), units, key=jr.key(0))
    assert isinstance(begun, Prior)
    np.testing.assert_allclose(
        np.exp(begun.generator.log_noise) + begun.generator.floor, 0.3, rtol=1e-5
    )


def test_convolutions_are_for_images():
    x = np.random.default_rng(0).normal(size=(10, 6, 6)).astype(np.float32)
    with pytest.raises(InputError, match="expected images with sides divisible by 4"):
        make_vae(fit_scale(x, integers=False), replace(SIZES, network="conv"), key=jr.key(0))
    with pytest.raises(InputError, match="network 'resnet'; expected one of conv, mlp"):
        make_vae(fit_scale(x, integers=False), replace(SIZES, network="resnet"), key=jr.key(0))
    assert VAESpec("scale", (8, 8)).kind == "vae"
