"""A model on disk: the same after loading, and refused when it is not what it says."""

import json
import math
from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import safetensors.numpy
from scipy import stats

import tiltflow
from tiltflow.backbones import fit_units
from tiltflow.errors import InputError
from tiltflow.mcmc import MALA
from tiltflow.model.fitted import FittedModel
from tiltflow.model.loading import load_model
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ

LOG_Z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")


@cache
def fitted(kind="standardise"):
    """A model that was not learned, and its rows."""
    rng = np.random.default_rng(0)
    integers = kind in ("gaussianise", "logit")
    x = rng.integers(0, 5, (200, 3)) if integers else rng.normal(size=(200, 3))
    units = fit_units(kind, x.astype(np.float32), integers=integers)
    spec = specify(units, blocks=1, flow_width=8, tilt_width=8)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    weights = model.tilt.layers[-1].weight
    model = eqx.tree_at(lambda m: m.tilt.layers[-1].weight, model, weights + 0.3)
    return FittedModel(model, spec, LOG_Z, integers, 0.5, 4), x.astype(np.float32)


@pytest.mark.parametrize("kind", ["standardise", "whiten", "gaussianise", "logit"])
def test_what_is_saved_is_what_is_loaded(kind, tmp_path):
    model, x = fitted(kind)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert {entry.name for entry in (tmp_path / "model").iterdir()} == {
        "config.json",
        "weights.safetensors",
    }
    assert jax.tree.structure(again.model) == jax.tree.structure(model.model)
    for one, other in zip(jax.tree.leaves(again.model), jax.tree.leaves(model.model), strict=True):
        np.testing.assert_array_equal(one, other)
    # NaN is not equal to itself, so the dictionaries, which say None, are compared.
    assert again.log_z.to_dict() == LOG_Z.to_dict()
    assert (again.integers, again.step_size, again.leapfrogs) == (model.integers, 0.5, 4)
    np.testing.assert_array_equal(again.log_prob(x[:5]), model.log_prob(x[:5]))


def test_log_prob_is_tilt_plus_backbone_minus_log_z():
    model, x = fitted()
    tilt = jax.vmap(model.model.f)(jnp.asarray(x[:7]))
    np.testing.assert_allclose(
        model.log_prob(x[:7]), model.backbone_log_prob(x[:7]) + tilt - 0.25, rtol=1e-5
    )
    standard = stats.norm.logpdf((x[:7] - x.mean(0)) / x.std(0)).sum(1) - np.log(x.std(0)).sum()
    np.testing.assert_allclose(model.backbone_log_prob(x[:7]), standard, rtol=1e-4)


def test_samples_have_the_shape_and_the_units_of_the_data():
    model, x = fitted("gaussianise")
    draws, chains = model.sample(chains=6, draws=9, warmup=5)
    assert draws.shape == (6, 9, 3)
    assert set(np.unique(draws)) <= set(np.unique(x))
    assert chains.summaries["f"].shape == (6, 9)
    f = jax.vmap(jax.vmap(model.model.tilt))(
        jax.vmap(jax.vmap(model.model.backbone.coordinates))(jnp.asarray(chains.positions))
    )
    np.testing.assert_allclose(chains.summaries["f"], f, atol=1e-4)


def test_rows_of_another_shape_are_refused():
    model, _ = fitted()
    for x in (np.zeros((4, 2)), np.zeros(3), 1.0):
        with pytest.raises(InputError, match="expected"):
            model.log_prob(x)


def tamper_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        block = config
        for parent in parents:
            block = block[parent]
        block[last] = value
    path.write_text(json.dumps(config))


def tamper_weights(folder, change):
    path = folder / "weights.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    change(arrays)
    path.write_bytes(safetensors.numpy.save(arrays))


def not_finite(arrays):
    arrays["tilt.layers.0.weight"][0, 0] = math.nan


TAMPERED = {
    "no folder": (lambda f: [p.unlink() for p in f.iterdir()], "config.json"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors"),
    "not json": (lambda f: (f / "config.json").write_text("{"), "JSON"),
    "newer format": (lambda f: tamper_config(f, format=99), "format 99"),
    "unknown units": (lambda f: tamper_config(f, model__units="magic"), "magic"),
    "unknown key": (lambda f: tamper_config(f, model__shell="rm"), "specification"),
    "no model": (lambda f: tamper_config(f, model=None), "specification"),
    "negative width": (lambda f: tamper_config(f, model__tilt_width=-3), "tilt_width is -3"),
    "width of text": (lambda f: tamper_config(f, model__tilt_width="8"), "tilt_width"),
    "huge": (lambda f: tamper_config(f, model__tilt_width=10**6), "parameters"),
    "huge shape": (lambda f: tamper_config(f, model__data_shape=[10**9]), "parameters"),
    "deep": (lambda f: tamper_config(f, model__tilt_depth=10**7), "tilt_depth is 10000000"),
    "many blocks": (lambda f: tamper_config(f, model__blocks=10**7), "blocks is 10000000"),
    "other width": (lambda f: tamper_config(f, model__tilt_width=9), "expected"),
    "log_z of text": (lambda f: tamper_config(f, log_z__mean="x"), "damaged"),
    "no sampler": (lambda f: tamper_config(f, sampler=None), "damaged"),
    "truncated": (
        lambda f: (f / "weights.safetensors").write_bytes(
            (f / "weights.safetensors").read_bytes()[:-9]
        ),
        "damaged",
    ),
    "a pickle": (lambda f: (f / "weights.safetensors").write_bytes(b"\x80\x04N."), "damaged"),
    "an array more": (
        lambda f: tamper_weights(f, lambda a: a.update(extra=np.zeros(1))),
        "extra",
    ),
    "an array less": (
        lambda f: tamper_weights(f, lambda a: a.pop("tilt.level")),
        "tilt.level",
    ),
    "float64": (
        lambda f: tamper_weights(f, lambda a: a.update({"tilt.level": np.zeros(())})),
        "not the file that config.json was written for",
    ),
    "not finite": (lambda f: tamper_weights(f, not_finite), "not finite"),
    "another file": (
        lambda f: tamper_weights(f, lambda a: a.update({"tilt.level": np.ones((), np.float32)})),
        "not the file that config.json was written for",
    ),
}


def test_scores_and_samples_of_integers_are_of_integers():
    model, x = fitted("logit")
    with pytest.raises(InputError, match="draws is 0; expected at least 1"):
        model.log_prob(x, draws=0)
    with pytest.raises(InputError, match="not integers"):
        model.log_prob(x + 0.5)
    one, many = (model.log_prob(x[:50], draws=draws).mean() for draws in (1, 20))
    assert abs(many - one) < 0.2 * abs(one)  # a mean over dequantisations, and no sum
    far = model.push(np.random.default_rng(0).normal(scale=9, size=(500, 3)).astype(np.float32))
    assert set(np.unique(far)) <= set(np.unique(x))


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_folder_is_refused_in_one_line(name, tmp_path):
    change, words = TAMPERED[name]
    fitted()[0].save(tmp_path)
    change(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_is_as_good_as_its_model(tmp_path):
    model, x = fitted()
    model.save(tmp_path / "model")
    assert np.array_equal(load_model(tmp_path).log_prob(x), model.log_prob(x))


def test_a_kernel_can_be_named():
    model, _ = fitted()
    by_name, by_kernel = (
        model.sample(4, 5, warmup=5, kernel=kernel)[0] for kernel in ("mala", MALA())
    )
    assert np.array_equal(by_name, by_kernel)
    with pytest.raises(InputError, match="expected one of"):
        model.sample(4, 5, kernel="gibbs")


def test_the_public_face():
    for name in tiltflow.__all__:
        assert getattr(tiltflow, name) is not None
    assert set(tiltflow.__all__) <= set(dir(tiltflow))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tiltflow.nothing


def test_a_log_z_of_ones_own_that_does_not_hold_is_a_warning():
    """Of one that holds there is none: here a warning is an error."""
    model, x = fitted()
    doubtful = replace(model, log_z=replace(LOG_Z, holds=False, words="Three draws."))
    with pytest.warns(UserWarning, match="up to a constant only: Three draws"):
        scores = doubtful.log_prob(x[:3])
    np.testing.assert_array_equal(scores, model.log_prob(x[:3]))


def test_columns_of_frames_are_found_by_the_names_that_the_model_knows(tmp_path):
    pandas = pytest.importorskip("pandas")
    model, x = fitted()
    model = replace(model, columns=("a", "b", "c"))
    model.save(tmp_path)
    again = load_model(tmp_path)
    assert again.columns == ("a", "b", "c")
    frame = pandas.DataFrame({"c": x[:, 2], "more": 1.0, "a": x[:, 0], "b": x[:, 1]})
    np.testing.assert_array_equal(again.log_prob(frame), model.log_prob(x))
    shuffled = pandas.DataFrame(x, columns=["b", "a", "c"])
    assert np.max(np.abs(again.log_prob(shuffled) - model.log_prob(x))) > 0.1  # power
    with pytest.raises(InputError, match="no column 'b', that the model knows"):
        again.log_prob(frame.drop(columns="b"))


@pytest.mark.parametrize("columns", ["abc", ["a", "b"], ["a", "b", 3]])
def test_names_of_columns_that_are_none_are_refused(columns, tmp_path):
    model, _ = fitted()
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"columns": columns}))
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        load_model(tmp_path)
