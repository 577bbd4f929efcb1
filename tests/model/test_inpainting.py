"""Inpainting where the answer is known: an affine backbone, a quadratic tilt, a normal posterior.

With x = A u + b and c = C u + d, u ~ N(0, I), all of f(c) = s.c - c' B c / 2 and of the observation
is quadratic in u: so u is normal, and so is x, given what is seen of it with normal noise or not.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tiltflow.backbones import CouplingFlow, Generator, Glow, GlowSizes, Prior, fit_units
from tiltflow.backbones.units.scale import fit_scale
from tiltflow.errors import InputError
from tiltflow.model import inpainting
from tiltflow.model.fitted import FittedModel
from tiltflow.model.inpainting import inpaint, observed
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ, importance
from tiltflow.tilts import CoordinateTilt, ObservedTilt, ReadsCoordinates

SHAPE, DIM = (2, 2), 4
SEEN = np.array([[True, False], [True, False]])
Y = np.array([[1.5, 0.0], [-0.5, 0.0]])
SIGMA = 0.6
CHAINS = 48  # always, so that a model's chains are one program
FEW = {"sigma": SIGMA, "chains": CHAINS, "draws": 4, "warmup": 10, "halvings": 1}
LOG_Z = LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0)


class Quadratic(ReadsCoordinates):
    """f(c) = s.c - c' B c / 2."""

    s: jnp.ndarray
    b: jnp.ndarray

    def __call__(self, c):
        return self.s @ c - 0.5 * c @ self.b @ c


class Altered(ObservedTilt):
    """Broken by weights: f, what is seen and what is hidden have 1, 1 and 0 in an `ObservedTilt`.

    Numbers, so that one program serves all ways to break it.
    """

    of_f: jnp.ndarray
    of_seen: jnp.ndarray
    of_hidden: jnp.ndarray

    def __call__(self, c):
        apart = (self.backbone.decode(c) - self.y) / self.sigma
        weight = jnp.where(self.seen, self.of_seen, self.of_hidden)
        return self.of_f * self.tilt(c) - 0.5 * jnp.sum(weight * apart**2)


def altered(of_f=1.0, of_seen=1.0, of_hidden=0.0):
    return partial(Altered, **{k: jnp.asarray(v) for k, v in locals().items()})


WHOLE = altered()
BROKEN = {
    "the sign is that of an energy": altered(of_seen=-0.1),  # weak: there still is a density
    "the width is not squared": altered(of_seen=SIGMA),
    "the tilt is forgotten": altered(of_f=0.0),
    "the mask is forgotten": altered(of_hidden=1.0),
}
each_broken = pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)


def linear(z):
    """Of a generator: two numbers to four."""
    weight = jnp.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -0.6], [0.7, 0.4]])
    return (weight @ z + jnp.array([0.5, -1.0, 1.0, 0.0])).reshape(SHAPE)


def backbone(kind):
    """A flow begins as the identity: what is left of it is its units, and a Glow's rotations."""
    rng = np.random.default_rng(0)
    x = (0.7 * rng.normal(size=(400, DIM)) @ rng.normal(size=(DIM, DIM)) + 1).reshape(-1, *SHAPE)
    if kind == "flow":
        units = fit_units("whiten", x, integers=False)
        return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    if kind == "glow":
        units = fit_scale(x, integers=False)
        return Glow(units, GlowSizes(steps=1, width=4), key=jr.key(0))
    return Generator.from_function(linear, (2,), noise=0.5 if kind == "generator" else None)


def model_of(kind):
    """With a tilt of all of its coordinates: of a generator, of z and x."""
    g = backbone(kind)
    rng = np.random.default_rng(3)
    root = 0.4 * rng.normal(size=(g.dim, g.dim))
    arrays = 0.8 * rng.normal(size=g.dim), root @ root.T
    tilt = Quadratic(*(jnp.asarray(a, jnp.float32) for a in arrays))
    return FittedModel(TiltedModel(g, tilt), None, LOG_Z, False, 0.3, 8)


@pytest.fixture(scope="module")
def cases():
    return {kind: Case(model_of(kind)) for kind in ("flow", "generator", "pushforward", "glow")}


@pytest.fixture(scope="module")
def fitted(cases):
    return cases["flow"].fitted


class Case:
    """A model, and what is known of it.

    Attributes:
        prior, posterior: without the observation and with it.
    """

    def __init__(self, fitted):
        self.fitted, model = fitted, fitted.model
        (size,) = model.backbone.latent_shape
        maps = affine(model.backbone.coordinates, size), affine(model.backbone.push, size)
        self.prior = Truth(model.tilt, *maps, np.zeros(SHAPE, bool))
        self.posterior = Truth(model.tilt, *maps, SEEN)


class Truth:
    """Moments and log Z in closed form.

    Attributes:
        mean, covariance: of x.
        log_z: without an observation, that of f.
    """

    def __init__(self, tilt, coordinates, push, seen):
        (to_c, c0), (to_x, x0) = coordinates, push
        s, b = (np.asarray(a, np.float64) for a in (tilt.s, tilt.b))
        to_y, away = to_x[seen.ravel()], (Y.ravel() - x0)[seen.ravel()]
        precision = np.eye(to_x.shape[1]) + to_c.T @ b @ to_c + to_y.T @ to_y / SIGMA**2
        slope = to_c.T @ (s - b @ c0) + to_y.T @ away / SIGMA**2
        covariance = np.linalg.inv(precision)
        self.mean, self.covariance = to_x @ covariance @ slope + x0, to_x @ covariance @ to_x.T
        self.log_z = s @ c0 - 0.5 * c0 @ b @ c0 + 0.5 * slope @ covariance @ slope
        self.log_z -= 0.5 * np.linalg.slogdet(precision)[1]


def affine(function, size):
    """Matrix and shift of what is affine."""
    points = np.concatenate([np.zeros((1, size)), np.eye(size)]).astype(np.float32)
    values = np.asarray(jax.jit(jax.vmap(function))(points), np.float64).reshape(size + 1, -1)
    return (values[1:] - values[0]).T, values[0]


def painted(fitted):
    x, latent = inpaint(
        fitted,
        np.where(SEEN, Y, np.nan),
        SEEN,
        sigma=SIGMA,
        chains=CHAINS,
        draws=60,
        warmup=100,
        halvings=2,
    )
    assert x.shape == (CHAINS, 60, *SHAPE)
    assert latent.positions.shape == (CHAINS, 60, *fitted.model.backbone.latent_shape)
    return x


def check_moments(x, truth):
    """Means and second moments of draws, seen and hidden, within 4.5 standard errors of chains."""
    away = x.reshape(CHAINS, -1, DIM).astype(np.float64) - truth.mean
    second = away[..., :, None] * away[..., None, :]
    for found, expected in ((away, np.zeros(DIM)), (second, truth.covariance)):
        by_chain = found.mean(axis=1)
        error = by_chain.std(axis=0, ddof=1) / np.sqrt(len(by_chain))
        assert np.all(np.abs(by_chain.mean(axis=0) - expected) < 4.5 * error)


def check_evidence(case, tilt=ObservedTilt):
    """Log Z is that of f, log p(y), and the constant left out of the noise's density."""
    model = case.fitted.model
    arrays = (jnp.asarray(Y, float), jnp.asarray(SEEN), jnp.asarray(SIGMA))
    seen_too = TiltedModel(model.backbone, tilt(model.tilt, model.backbone, *arrays))
    found = importance(np.asarray(exact_f(seen_too, 50_000, jr.key(4))))
    alone, seen = case.prior, SEEN.ravel()
    noisy = alone.covariance[np.ix_(seen, seen)] + SIGMA**2 * np.eye(seen.sum())
    log_p = multivariate_normal(alone.mean[seen], noisy).logpdf(Y.ravel()[seen])
    truth = alone.log_z + log_p + 0.5 * seen.sum() * np.log(2 * np.pi * SIGMA**2)
    assert found.standard_error < 0.05
    assert abs(found.mean - truth) < 4 * found.standard_error


@pytest.mark.parametrize("kind", ["flow", "generator", "pushforward", "glow"])
def test_draws_are_those_of_the_posterior(cases, kind):
    x = painted(cases[kind].fitted)
    check_moments(x, cases[kind].posterior)
    with pytest.raises(AssertionError):  # power: nothing has been seen
        check_moments(x, cases[kind].prior)


@pytest.mark.parametrize("kind", ["flow", "generator"])
@each_broken
def test_power_of_the_draws(cases, kind, broken, monkeypatch):
    monkeypatch.setattr(inpainting, "ObservedTilt", broken)
    with pytest.raises(AssertionError):
        check_moments(painted(cases[kind].fitted), cases[kind].posterior)


@pytest.mark.parametrize("kind", ["flow", "generator"])
def test_weights_that_change_nothing_break_nothing(cases, kind, monkeypatch):
    monkeypatch.setattr(inpainting, "ObservedTilt", WHOLE)
    check_moments(painted(cases[kind].fitted), cases[kind].posterior)
    check_evidence(cases[kind], WHOLE)


@pytest.mark.parametrize("kind", ["flow", "generator"])
def test_the_evidence_is_that_of_the_observation(cases, kind):
    check_evidence(cases[kind])


@pytest.mark.parametrize("kind", ["flow", "generator"])
@each_broken
def test_power_of_the_evidence(cases, kind, broken):
    with pytest.raises(AssertionError):
        check_evidence(cases[kind], broken)


def test_the_same_seed_gives_the_same_draws_and_hidden_values_are_not_looked_at(fitted):
    first, _ = inpaint(fitted, Y, SEEN, **FEW)
    other, _ = inpaint(fitted, np.where(SEEN, Y, 7.0), SEEN, **FEW)
    np.testing.assert_array_equal(first, other)
    another, _ = inpaint(fitted, Y, SEEN, **FEW, seed=1)
    assert not np.array_equal(first, another)


@pytest.fixture(scope="module")
def bins(fitted):
    """The same model of integers."""
    return FittedModel(fitted.model, None, LOG_Z, True, 0.3, 8)


def test_integers_are_observed_in_the_middle_of_their_bins(fitted, bins):
    whole, latent = inpaint(bins, np.ones(SHAPE), SEEN, **FEW)
    _, same = inpaint(fitted, np.full(SHAPE, 1.5), SEEN, **FEW)
    np.testing.assert_array_equal(latent.positions, same.positions)
    np.testing.assert_array_equal(whole, np.floor(whole))


def test_seen_values_that_are_not_integers_are_an_input_error(bins):
    with pytest.raises(InputError, match="values that are not integers"):
        inpaint(bins, np.full(SHAPE, 1.5), SEEN, sigma=SIGMA)


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
        (Y, SEEN, {"halvings": -1}, "halvings is -1; expected a whole number, 0 or more"),
        (Y, SEEN, {"halvings": 1.5}, "halvings is 1.5"),
        (Y, SEEN, {"draws": 0}, "draws is 0; expected a whole number >= 1"),
        (Y, SEEN, {"chains": -1}, "chains is -1"),
        (Y, SEEN, {"warmup": 2.5}, "warmup is 2.5"),
        (Y, SEEN.astype(int), {}, r"the mask is int64\[2, 2\]; expected booleans"),
        (Y, SEEN.ravel(), {}, r"the mask is bool\[4\]; expected booleans"),
        (Y[None], SEEN, {}, r"x has shape \(1, 2, 2\); expected one example"),
        (np.full(SHAPE, np.nan), SEEN, {}, "the seen part of x is not finite"),
    ],
)
def test_what_cannot_be_painted_is_an_input_error(fitted, x, seen, changes, words):
    with pytest.raises(InputError, match=words):
        inpaint(fitted, x, seen, **{"sigma": SIGMA, **changes})


def test_a_tilt_of_z_alone_is_refused():
    generator = Generator.from_function(lambda z: z.reshape(SHAPE), (DIM,), noise=0.1)
    of_z = FittedModel(
        TiltedModel(Prior(generator), CoordinateTilt(jnp.sum)), None, LOG_Z, False, 0.3, 8
    )
    with pytest.raises(InputError, match="move its generator's z alone"):
        inpaint(of_z, Y, SEEN, sigma=SIGMA)
