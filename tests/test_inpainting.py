"""Inpainting where the answer is known: a normal backbone, a linear tilt, a normal posterior.

x = mean + L u with f(x) = slope . x is normal, with the same covariance and its mean moved by
covariance @ slope; and so is x given some of its numbers with normal noise.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tiltflow import inpainting
from tiltflow.backbones import CouplingFlow, Generator, Prior, fit_units
from tiltflow.errors import InputError
from tiltflow.fitted import FittedModel
from tiltflow.inpainting import inpaint, observed
from tiltflow.normalizer import LogZ, importance
from tiltflow.normalizer.log_normalizer import exact_f
from tiltflow.tilted import TiltedModel
from tiltflow.tilts import ObservedTilt

SHAPE, DIM = (2, 2), 4
SEEN = np.array([[True, False], [True, False]])
Y = np.array([[1.5, 0.0], [-0.5, 0.0]])
SLOPE = np.array([0.3, -0.5, 0.2, 0.4])
SIGMA = 0.6


class WrongSign(ObservedTilt):
    """Broken: the sign is that of an energy; flattened, so that there still is a density."""

    def __call__(self, c):
        return self.tilt(c) - 0.3 * (super().__call__(c) - self.tilt(c))


class NoiseForgotten(ObservedTilt):
    """Broken: the width is not squared, so that it is that of another noise."""

    def __call__(self, c):
        return self.tilt(c) + self.sigma * (super().__call__(c) - self.tilt(c))


class TiltForgotten(ObservedTilt):
    """Broken: the backbone's own posterior."""

    def __call__(self, c):
        return super().__call__(c) - self.tilt(c)


class MaskForgotten(ObservedTilt):
    """Broken: the hidden part is taken for seen."""

    def __call__(self, c):
        apart = (self.backbone.decode(c) - self.y) / self.sigma
        return self.tilt(c) - 0.5 * jnp.sum(apart**2)


BROKEN = (WrongSign, NoiseForgotten, TiltForgotten, MaskForgotten)


class Linear(eqx.Module):
    """f(x) = slope . x, of coordinates."""

    backbone: CouplingFlow

    def __call__(self, c):
        return jnp.sum(SLOPE * self.backbone.units.decode(c).ravel())


@pytest.fixture(scope="module")
def fitted():
    """A flow that is its units: a coupling flow begins as the identity."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, DIM)) @ rng.normal(size=(DIM, DIM)) + 1.0
    units = fit_units("whiten", x.reshape(-1, *SHAPE), integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    log_z = LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0)
    return FittedModel(TiltedModel(flow, Linear(flow)), None, log_z, False, 0.3, 8)


def prior(fitted):
    """Mean and covariance of the tilted x, and its log Z."""
    push = fitted.model.backbone.push
    matrix = np.asarray(jax.jacobian(push)(jnp.zeros(DIM)), np.float64).reshape(DIM, DIM)
    middle = np.asarray(push(jnp.zeros(DIM)), np.float64).ravel()
    covariance = matrix @ matrix.T
    log_z = SLOPE @ middle + 0.5 * SLOPE @ covariance @ SLOPE
    return middle + covariance @ SLOPE, covariance, log_z


def posterior(fitted):
    """Mean and covariance of x given the observation."""
    mean, covariance, _ = prior(fitted)
    seen = SEEN.ravel()
    gain = covariance[:, seen] @ np.linalg.inv(
        covariance[np.ix_(seen, seen)] + SIGMA**2 * np.eye(seen.sum())
    )
    return mean + gain @ (Y.ravel() - mean)[seen], covariance - gain @ covariance[seen]


def check_posterior(fitted):
    """Means and second moments of draws, seen and hidden, within 4.5 standard errors of chains."""
    x, latent = inpaint(
        fitted, np.where(SEEN, Y, np.nan), SEEN, sigma=SIGMA, chains=128, draws=100, halvings=2
    )
    assert x.shape == (128, 100, *SHAPE)
    assert latent.positions.shape == (128, 100, DIM)
    mean, covariance = posterior(fitted)
    away = x.reshape(128, 100, DIM).astype(np.float64) - mean
    second = away[..., :, None] * away[..., None, :]
    for found, truth in ((away, np.zeros(DIM)), (second, covariance)):
        by_chain = found.mean(axis=1)
        error = by_chain.std(axis=0, ddof=1) / np.sqrt(len(by_chain))
        assert np.all(np.abs(by_chain.mean(axis=0) - truth) < 4.5 * error)


def check_evidence(fitted, tilt=ObservedTilt):
    """Log Z is that of f, log p(y), and the constant left out of the noise's density."""
    model = fitted.model
    arrays = (jnp.asarray(Y, float), jnp.asarray(SEEN), jnp.asarray(SIGMA))
    model = TiltedModel(model.backbone, tilt(model.tilt, model.backbone, *arrays))
    found = importance(np.asarray(exact_f(model, 100_000, jr.key(4))))
    mean, covariance, log_z = prior(fitted)
    seen = SEEN.ravel()
    noisy = covariance[np.ix_(seen, seen)] + SIGMA**2 * np.eye(seen.sum())
    log_p = multivariate_normal(mean[seen], noisy).logpdf(Y.ravel()[seen])
    truth = log_z + log_p + 0.5 * seen.sum() * np.log(2 * np.pi * SIGMA**2)
    assert found.standard_error < 0.05
    assert abs(found.mean - truth) < 4 * found.standard_error


def test_draws_are_those_of_the_posterior(fitted):
    check_posterior(fitted)


def test_the_evidence_is_that_of_the_observation(fitted):
    check_evidence(fitted)


@pytest.mark.parametrize("broken", BROKEN)
def test_power_of_the_evidence(fitted, broken):
    with pytest.raises(AssertionError):
        check_evidence(fitted, broken)


@pytest.mark.parametrize("broken", [WrongSign, NoiseForgotten])
def test_power_of_the_draws(fitted, broken, monkeypatch):
    monkeypatch.setattr(inpainting, "ObservedTilt", broken)
    with pytest.raises(AssertionError):
        check_posterior(fitted)


def test_the_same_seed_gives_the_same_draws_and_hidden_values_are_not_looked_at(fitted):
    few = {"sigma": SIGMA, "chains": 4, "draws": 4, "warmup": 10, "halvings": 1}
    first, _ = inpaint(fitted, Y, SEEN, **few)
    other, _ = inpaint(fitted, np.where(SEEN, Y, 7.0), SEEN, **few)
    np.testing.assert_array_equal(first, other)
    another, _ = inpaint(fitted, Y, SEEN, **few, seed=1)
    assert not np.array_equal(first, another)


def test_integers_are_observed_in_the_middle_of_their_bins(fitted):
    bins = FittedModel(fitted.model, None, fitted.log_z, True, 0.3, 8)
    few = {"sigma": SIGMA, "chains": 4, "draws": 4, "warmup": 10, "halvings": 0}
    whole, latent = inpaint(bins, np.ones(SHAPE), SEEN, **few)
    _, same = inpaint(fitted, np.full(SHAPE, 1.5), SEEN, **few)
    np.testing.assert_array_equal(latent.positions, same.positions)
    np.testing.assert_array_equal(whole, np.floor(whole))


def test_observing_nothing_changes_nothing(fitted):
    u = jr.normal(jr.key(1), (8, DIM))
    model = observed(fitted.model, np.zeros(SHAPE), np.zeros(SHAPE, bool), 0.1)
    expected = fitted.model.latent_log_densities(u)
    np.testing.assert_allclose(model.latent_log_densities(u), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "seen", "changes", "words"),
    [
        (Y, SEEN, {"sigma": 0.0}, "sigma is 0.0; expected a positive width"),
        (Y, SEEN, {"sigma": float("nan")}, "sigma is nan"),
        (Y, SEEN, {"halvings": -1}, "halvings is -1"),
        (Y, SEEN.astype(int), {}, r"the mask is int64\[2, 2\]; expected booleans"),
        (Y, SEEN.ravel(), {}, r"the mask is bool\[4\]; expected booleans"),
        (Y[None], SEEN, {}, r"x has shape \(1, 2, 2\); expected one example"),
        (np.full(SHAPE, np.nan), SEEN, {}, "the seen part of x is not finite"),
    ],
)
def test_what_cannot_be_painted_is_an_input_error(fitted, x, seen, changes, words):
    with pytest.raises(InputError, match=words):
        inpaint(fitted, x, seen, **{"sigma": SIGMA, **changes})


def test_a_tilt_of_z_alone_is_refused(fitted):
    generator = Generator.from_function(lambda z: z.reshape(SHAPE), (DIM,), noise=0.1)
    of_z = FittedModel(TiltedModel(Prior(generator), jnp.sum), None, fitted.log_z, False, 0.3, 8)
    with pytest.raises(InputError, match="move its generator's z alone"):
        inpaint(of_z, Y, SEEN, sigma=SIGMA)
