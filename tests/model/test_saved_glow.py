"""A tilted Glow is learned, saved and loaded, and refused where its folder is not one."""

import json
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import GlowSizes
from tiltflow.errors import InputError
from tiltflow.fitting.recipes import begin_backbone, learn_backbone, specification, units_for
from tiltflow.fitting.settings import suited_glow, suited_to
from tiltflow.learning import Rows
from tiltflow.learning.keeping import KeepsNothing
from tiltflow.model.fitted import FittedModel
from tiltflow.model.loading import load_model
from tiltflow.model.specs.arrays import named_arrays
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import ConvSizes

LOG_Z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")
LEVELS = 16


@pytest.fixture(scope="module")
def images():
    """Bright or dark squares with noise, 4 x 4 pixels."""
    rng = np.random.default_rng(0)
    x = 8 + 4 * rng.choice([-1, 1], (600, 1, 1)) + rng.normal(size=(600, 4, 4))
    return np.clip(np.round(x), 0, LEVELS - 1).astype(np.uint8)


@pytest.fixture(scope="module")
def settings():
    small = suited_glow(500, (4, 4))
    model = replace(
        small.model, glow=GlowSizes(steps=1, width=8), conv=ConvSizes(channels=2, width=4)
    )
    backbone = replace(small.backbone, steps=250, batch=32, rate=1e-2, memory=0.98, val_draws=2)
    return replace(small, model=model, backbone=backbone)


@pytest.fixture(scope="module")
def learned(images, settings):
    """The specification, the backbone, and minus its validation score, in nats."""
    units = units_for(settings.model, images, integers=True, limits=(0, LEVELS - 1))
    spec = specification(settings.model, units)
    start = begin_backbone(spec, units, key=jr.key(0))
    train, val = (Rows(jnp.asarray(part), units, True) for part in (images[:500], images[500:]))
    how = {"key": jr.key(1), "listen": lambda *_, **__: None, "keeper": KeepsNothing()}
    backbone, nll = learn_backbone(start, train, val, settings, **how)
    return spec, backbone, nll


def test_it_learns_what_independent_pixels_do_not_say(learned, images):
    """A pixel on its own has the entropy of two narrow hills; together they share one bit."""
    _, _, nll = learned
    counts = np.stack([np.bincount(c, minlength=LEVELS) for c in images.reshape(600, -1).T])
    shares = counts / counts.sum(axis=1, keepdims=True)
    apart = -np.sum(shares * np.log(np.maximum(shares, 1e-12)))
    assert nll < apart - 5


@pytest.fixture(scope="module")
def saved(learned, tmp_path_factory):
    spec, backbone, _ = learned
    tilt = spec.tilt(key=jr.key(2))
    tilt = eqx.tree_at(lambda t: t.last.weight, tilt, replace_fn=lambda w: w + 0.3)
    fitted = FittedModel(TiltedModel(backbone, tilt), spec, LOG_Z, True, 0.5, 4)
    folder = tmp_path_factory.mktemp("glow")
    fitted.save(folder)
    return folder, fitted


def test_what_is_saved_is_what_is_loaded(saved, images):
    folder, fitted = saved
    again = load_model(folder)
    assert again.spec == fitted.spec
    assert json.loads((folder / "config.json").read_text())["model"]["kind"] == "glow"
    scores = [model.log_prob(images[:5], draws=1) for model in (again, fitted)]
    np.testing.assert_array_equal(*scores)
    u = np.random.default_rng(1).normal(size=(64, 16)).astype(np.float32)
    drawn = again.push(u)
    assert drawn.shape == (64, 4, 4)
    assert np.all((drawn >= 0) & (drawn < LEVELS) & (drawn == np.floor(drawn)))
    brightness = drawn.mean(axis=(1, 2))
    assert np.sum(brightness < 7) > 12 < np.sum(brightness > 9)  # both kinds of square


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            {"kind": "diffusion"},
            "the model is of kind 'diffusion'; expected 'vae', 'glow', 'gaussian'",
        ),
        ({"steps": 0}, "steps is 0; expected a whole number >= 1"),
        ({"steps": 10_000}, "steps is 10000; expected at most 256"),
        ({"width": 10**6}, "parameters; expected at most"),
        ({"precision": "float8"}, "precision 'float8'; expected float32 or bfloat16"),
        ({"remat": 1}, "remat is 1; expected true or false"),
        ({"surprise": 1}, "expected units, data_shape and otherwise only"),
        ({"data_shape": [5, 5]}, "images of 5 x 5 pixels; expected even sides"),
        ({"tilt_spectral": "much"}, "tilt_spectral is 'much'; expected a number"),
        ({"width": 9}, "expected float32"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_damaged_folders_are_refused(saved, tmp_path, wrong, expected):
    folder, _ = saved
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= wrong
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    with pytest.raises(InputError, match=expected):
        load_model(tmp_path)


def test_no_guess_of_the_size_is_far_below_what_there_is():
    """`check_size` protects only if the guess is not too small."""
    for shape, sizes in (((8, 8), GlowSizes()), ((32, 32, 3), GlowSizes(steps=2, width=128))):
        x = np.zeros((2, *shape))
        settings = suited_to("glow", 50_000, shape)
        model = replace(settings.model, glow=sizes)
        units = units_for(model, x, integers=True, limits=(0, 255))
        spec = specification(model, units)
        there = sum(int(np.prod(leaf.shape)) for leaf in named_arrays(spec.skeleton()).values())
        assert 0.5 * there < spec._parameters() < 5 * there
