"""A normal density and mixtures by label over it: closed forms, exact starts, jumps, folders."""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tiltflow.backbones import Gaussian, fit_units
from tiltflow.errors import InputError
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.fit_mixture import exact_start, mixture_of_labels
from tiltflow.learning.nce import fit_nce
from tiltflow.mcmc import sample
from tiltflow.model.fitted import FittedModel
from tiltflow.model.kernels import kernel_of, suited_kernel
from tiltflow.model.loading import load_model
from tiltflow.model.specs import specify_gaussian
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import ClassTilt, Frozen, MixtureTilt, MLPTilt, Sum
from tiltflow.tilts.mixture import FLOOR

SHARES = np.array([0.5, 0.3, 0.2])
CENTRES = np.array([[10.0, 0.0], [14.0, 1.0], [12.0, 5.0]])
MOVED = np.array([0.5, 0.0])
SHAPE = np.array([[1.0, 0.0], [0.8, 0.6]])  # covariance SHAPE SHAPE^T, of all classes
LOG_Z = LogZ(0.0, 0.01, -0.02, 0.02, "bridge", 900.0, 800.0, holds=True, words="Fine.")


def drawn(number, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, number, p=SHARES)
    return CENTRES[labels] + rng.normal(size=(number, 2)) @ SHAPE.T, labels


@pytest.fixture(scope="module")
def data():
    x, labels = drawn(4_000, 0)
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def backbone(data):
    return Gaussian(fit_units("whiten", data[0], integers=False))


@pytest.fixture(scope="module")
def mixture(data, backbone):
    x, labels = data
    return mixture_of_labels(Rows(x, labels=labels).through(backbone), key=jr.key(0))


def check_normal(log_prob, x):
    """The density of the rows' mean and covariance, its correlations shrunk as the units say."""
    covariance = np.cov(x.T, bias=True)
    covariance[0, 1] = covariance[1, 0] = 0.98 * covariance[0, 1]
    truth = multivariate_normal(x.mean(axis=0), covariance).logpdf(x[:64])
    np.testing.assert_allclose(jax.vmap(log_prob)(x[:64]), truth, atol=1e-3)


def test_it_is_the_normal_density_of_the_rows(data, backbone):
    x = data[0].astype(np.float64)
    check_normal(backbone.log_prob, x)
    with pytest.raises(AssertionError):  # power: the change of units is not counted
        check_normal(lambda x: backbone.log_prob_coordinates(backbone.units.encode(x)), x)


def truth(backbone, x, labels, at):
    """Linear discriminant analysis by hand: class means, one covariance, shares."""
    added = FLOOR * backbone.units.inverse @ backbone.units.inverse.T
    means = np.stack([x[labels == k].mean(axis=0) for k in range(3)])
    covariance = np.cov((x - means[labels]).T, bias=True) + added
    shares = np.bincount(labels) / len(labels)
    each = [multivariate_normal(m, covariance).logpdf(at) for m in means]
    return logsumexp(np.stack(each, axis=1) + np.log(shares), axis=1)


def check_mixture(backbone, mixture, data):
    """log p of the tilted model with log Z = 0, in data units."""
    x = data[0].astype(np.float64)
    model = TiltedModel(backbone, mixture)
    found = jax.vmap(lambda x: model.log_prob(x, 0.0))(jnp.asarray(data[0][:200]))
    np.testing.assert_allclose(found, truth(backbone, x, data[1], x[:200]), atol=2e-3)


def test_a_mixture_by_label_is_linear_discriminant_analysis(data, backbone, mixture):
    check_mixture(backbone, mixture, data)
    c = np.asarray(jax.vmap(backbone.units.encode)(data[0]))
    own = MixtureTilt.of_labels(c, data[1], shared=False)
    assert not np.allclose(own.factors[0], own.factors[1], atol=1e-2)
    shuffled = np.random.default_rng(1).permutation(data[1])
    with pytest.raises(AssertionError):  # power: labels that say nothing
        check_mixture(backbone, MixtureTilt.of_labels(c, shuffled), data)


def test_labels_that_are_none_are_refused(data):
    c = data[0]
    with pytest.raises(InputError, match="expected one integer a row"):
        MixtureTilt.of_labels(c, data[1].astype(float))
    with pytest.raises(InputError, match="expected more, or shared=True"):
        MixtureTilt.of_labels(c[:3], np.array([0, 0, 1]), shared=False)
    with pytest.raises(InputError, match="the rows have no labels"):
        mixture_of_labels(Rows(c), key=jr.key(0))
    with pytest.raises(InputError, match="of classes counted from 0"):
        Rows(c, labels=data[1] - 1)


def shares_of(backbone, u):
    """How many are nearest to each centre, in data units."""
    x = np.asarray(jax.vmap(backbone.decode)(jnp.asarray(u)))
    nearest = np.argmin(np.sum((x[:, None] - CENTRES) ** 2, axis=2), axis=1)
    return np.bincount(nearest, minlength=3) / len(x)


def check_shares(backbone, u, error):
    true = shares_of(backbone, jax.vmap(backbone.units.encode)(jnp.asarray(drawn(20_000, 7)[0])))
    assert np.max(np.abs(shares_of(backbone, u) - true)) < 4.5 * error + 0.02


def test_starts_are_exact_and_chains_jump(backbone, mixture):
    """From one class only: jumps to draws of the mixture find the others' shares."""
    number = 256
    error = 0.5 / np.sqrt(number)
    check_shares(backbone, exact_start(mixture, number, key=jr.key(1)).u, error)
    model = TiltedModel(backbone, Sum(Frozen(mixture), MLPTilt(2, width=4, key=jr.key(0))))
    assert suited_kernel(model) == "hmc+jumps"
    start = jnp.broadcast_to(mixture.means[2], (number, 2))
    how = {"num_draws": 1, "num_warmup": 8, "step_size": 0.3}
    one = TiltedModel(backbone, MLPTilt(2, width=4, key=jr.key(0)))
    moved = [
        sample(jr.key(2), model.latent_log_densities, start, kernel=kernel, **how).positions[:, -1]
        for kernel in (kernel_of(model, None, 2), kernel_of(model, "hmc", 2))
    ]
    check_shares(backbone, moved[0], error)
    assert one.mixture is None
    with pytest.raises(AssertionError):  # power: without jumps they stay where they are
        check_shares(backbone, moved[1], error)


def test_contrast_with_the_mixture_learns_what_it_leaves(data, backbone, mixture):
    """Rows moved by a constant: over N(0, I) that and the mixture would have to be learned."""
    x, _ = drawn(4_000, 3)
    rows = Rows((x + MOVED).astype(np.float32))
    tilt = Sum(Frozen(mixture), MLPTilt(2, width=32, key=jr.key(1)))
    settings = TiltSettings(nce_steps=500, batch_data=256, rate=1e-2, memory=0.98, decay=0.0)
    learned, told = fit_nce(backbone, tilt, rows, rows.first(1_000), settings, key=jr.key(2))
    assert 0.6 < told.loss < np.log(2)  # little is left: against N(0, I) it is 0.4
    at = x[:1_000] + MOVED
    c = jax.vmap(backbone.units.encode)(jnp.asarray(at, jnp.float32))
    gained = jax.vmap(lambda c: learned(c) - mixture(c))(c)
    x0, labels = data
    expected = truth(backbone, x0, labels, at - MOVED) - truth(backbone, x0, labels, at)
    assert abs(np.mean(gained - expected)) < 0.1 < 0.25 < np.mean(expected)  # nats
    assert np.corrcoef(gained, expected)[0, 1] > 0.85


@pytest.mark.parametrize("classes", [0, 3])
def test_what_is_saved_is_what_is_loaded(data, backbone, mixture, classes, tmp_path):
    spec = specify_gaussian(backbone.units, components=3, classes=classes, tilt_width=4)
    tilt = spec.tilt(mixture, key=jr.key(3))
    assert isinstance(tilt.parts[1], ClassTilt if classes else MLPTilt)
    fitted = FittedModel(TiltedModel(backbone, tilt), spec, LOG_Z, False, 0.5, 4)
    fitted.save(tmp_path)
    again = load_model(tmp_path)
    assert again.spec == spec
    scores = [model.log_prob(data[0][:5]) for model in (again, fitted)]
    np.testing.assert_array_equal(*scores)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["classes"] = -1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="classes is -1; expected a whole number >= 0"):
        load_model(tmp_path)
