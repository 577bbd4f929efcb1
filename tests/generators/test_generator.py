"""A generator: a bijection of (z, eps) and (z, y), unbiased scores of data, and what it lacks.

Every check is a function of a backbone, so that its power twin can run it on a broken one.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_gaussian import SHIFT, SIGMA, WEIGHT, X, Z, case, generator, linear, log_normal

from tiltflow.backbones import Generator, Prior, Pushforward, fit_units
from tiltflow.backbones.base import standard_normal_log_prob
from tiltflow.backbones.units.scale import fit_scale, identity
from tiltflow.errors import InputError
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import OfLatent

ROWS = 8
DRAWS = 4_000


class NoiseForgotten(Generator):
    """Broken: the density of the noise has the wrong width."""

    def inverse(self, c):
        u, log_det = super().inverse(c)
        return u, 0.5 * log_det


class EncoderForgotten(Generator):
    """Broken: the encoder's density is not in the weight."""

    def embed(self, x, key=None):
        c, log_weight = super().embed(x, key)
        return c, log_weight + self.encode(self.units.encode(x), key)[1]


def broken(kind: type[Generator]) -> Generator:
    """The generator as another class with the same fields."""
    sound = generator()
    other = object.__new__(kind)
    for name, value in vars(sound).items():
        object.__setattr__(other, name, value)
    return other


@pytest.fixture(scope="module")
def x():
    """Rows of the tilted model of both."""
    rng = np.random.default_rng(0)
    mean, covariance = case("both").tilted
    return jnp.asarray(rng.multivariate_normal(mean, covariance, ROWS)[:, Z:], jnp.float32)


def check_bijection(backbone: Generator) -> None:
    """inverse(coordinates(u)) = u, with the log-determinant that autodiff finds."""

    def apart(u):
        c = backbone.coordinates(u)
        back, log_det = backbone.inverse(c)
        jacobian = jax.jacfwd(backbone.coordinates)(u)
        expected = standard_normal_log_prob(u) - jnp.linalg.slogdet(jacobian)[1]
        return back - u, backbone.log_prob_coordinates(c) - expected, log_det

    there, density, _ = jax.jit(jax.vmap(apart))(
        jr.normal(jr.key(1), (ROWS, *backbone.latent_shape))
    )
    np.testing.assert_allclose(there, 0.0, atol=1e-5)
    np.testing.assert_allclose(density, 0.0, atol=1e-4)


def check_unbiased(backbone: Generator | Prior, x) -> None:
    """The mean of exp(log q(c) + log-weight) is q(x), within 4.5 standard errors."""

    def score(x, key):
        c, log_weight = backbone.embed(x, key)
        return backbone.log_prob_coordinates(c) + log_weight

    keys = jr.split(jr.key(2), (ROWS, DRAWS))
    scores = jax.jit(jax.vmap(jax.vmap(score, (None, 0))))(x, keys)
    ratio = np.exp(np.asarray(scores, np.float64) - case("x").log_q(np.asarray(x))[:, None])
    error = ratio.std(axis=1) / np.sqrt(DRAWS)
    assert np.max(np.abs(ratio.mean(axis=1) - 1) / error) < 4.5


def check_draws(backbone: Generator | Prior) -> None:
    """Pushed noise has the mean and covariance of q(x), within 4.5 standard errors."""
    u = jr.normal(jr.key(3), (20_000, *backbone.latent_shape))
    x = np.asarray(jax.jit(jax.vmap(backbone.push))(u), np.float64) - SHIFT
    covariance = WEIGHT @ WEIGHT.T + np.diag(SIGMA**2)
    assert np.max(np.abs(x.mean(0)) / (x.std(0) / np.sqrt(len(x)))) < 4.5
    products = x[:, :, None] * x[:, None]
    error = products.std(0) / np.sqrt(len(x))
    assert np.max(np.abs(products.mean(0) - covariance) / error) < 4.5


def test_the_joint_coordinates_are_a_bijection():
    check_bijection(generator())
    with pytest.raises(AssertionError):
        check_bijection(broken(NoiseForgotten))


def test_embeddings_estimate_the_density_without_bias(x):
    check_unbiased(generator(), x)
    check_unbiased(Prior(generator()), x)
    for kind in (NoiseForgotten, EncoderForgotten):
        with pytest.raises(AssertionError):
            check_unbiased(broken(kind), x)


def test_a_generator_without_an_encoder_is_scored_from_its_prior(x):
    check_unbiased(Generator.from_function(linear, (Z,), noise=SIGMA), x)


def test_draws_are_the_generators_from_both_views():
    check_draws(generator())
    check_draws(Prior(generator()))
    narrow = eqx.tree_at(lambda g: g.log_noise, generator(), replace_fn=lambda n: n - 0.2)
    for view in (narrow, Prior(narrow)):
        with pytest.raises(AssertionError):
            check_draws(view)


def test_the_noise_of_a_latent_draw_is_its_own():
    prior = Prior(generator())
    z = jr.normal(jr.key(4), (2, Z))
    first, again, other = (prior.push(z) for z in (z[0], z[0], z[1]))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.abs((first - prior.expected(z[0])) - (other - prior.expected(z[1]))) > 1e-4)


def test_a_tilt_of_z_needs_no_decoder_over_the_prior():
    """What a chain computes, value and gradient, has nothing of a decoder of 10^6 products."""
    wide = jr.normal(jr.key(5), (1_000, 1_000)) / 30

    def decoder(z):
        return jnp.tanh(wide @ jnp.tanh(wide[:, :Z] @ z))[:X]

    def products(model):
        chain = jax.jit(jax.value_and_grad(model.latent_log_density))
        cost = chain.lower(jnp.zeros(model.backbone.latent_shape)).compile().cost_analysis()
        return cost["flops"]

    large = Generator.from_function(decoder, (Z,), noise=1.0)
    tilt = case("z").of(slice(Z))
    assert products(TiltedModel(Prior(large), tilt)) < 1e3
    assert products(TiltedModel(large, OfLatent(tilt, Z))) > 1e6  # power


def test_noise_is_in_data_units_and_the_units_are_counted(x):
    """Other linear units change nothing that is said in data units."""
    units = fit_scale(5.0 * np.asarray(x), integers=False)
    inner = generator().encoder

    def encoder(y):
        return inner(units.decode(y))

    scaled = Generator.from_function(linear, (Z,), noise=SIGMA, units=units, encoder=encoder)
    check_unbiased(scaled, x)
    check_draws(scaled)


def test_noise_common_to_all_numbers_counts_for_each():
    """A single sigma is that of every number; the twin is one a number."""
    how = {"encoder": None, "z_dim": Z}
    one = Generator(identity((X,)), linear, noise=0.3, **how)
    each = Generator(identity((X,)), linear, noise=np.full(X, 0.3), **how)
    assert (one.sigma.shape, each.sigma.shape) == ((), (X,))
    c = jr.normal(jr.key(7), (Z + X,))
    for found, expected in zip(one.inverse(c), each.inverse(c), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(one.inverse(c)[1]) == pytest.approx(-X * np.log(0.3), rel=1e-5)


def test_noise_is_said_only_in_units_that_scale_each_number_by_itself(x):
    """Whitened, the noise would have been |sum of a row of A sigma|, and correlated."""
    x = np.asarray(x)
    standard = fit_units("standardise", x, integers=False)
    found = Generator.from_function(linear, (Z,), noise=SIGMA, units=standard)
    np.testing.assert_allclose(found.sigma, SIGMA / x.std(axis=0), rtol=1e-3)
    for kind in ("whiten", "histogram"):
        units = fit_units(kind, x, integers=False)
        with pytest.raises(InputError, match="scale each number by itself"):
            Generator.from_function(linear, (Z,), noise=SIGMA, units=units)


def test_without_noise_there_are_draws_and_no_density(x):
    bare = Generator.from_function(linear, (Z,))
    assert isinstance(bare, Pushforward)
    u = jr.normal(jr.key(6), (Z,))
    np.testing.assert_allclose(bare.push(u), linear(u))
    np.testing.assert_allclose(bare.coordinates(u), linear(u))
    with pytest.raises(InputError, match="no density, so no likelihood"):
        bare.log_prob(x[0])


def test_a_generator_has_no_exact_likelihood(x):
    model = TiltedModel(generator(), case("both").tilt)
    for ask in (model.backbone.log_prob, model.f, lambda x: model.log_prob(x, 0.0)):
        with pytest.raises(InputError, match="use the bounds"):
            ask(x[0])


@pytest.mark.parametrize(
    ("function", "wrong", "expected"),
    [
        (linear, {"noise": 0.0}, "noise is 0 and its floor 0; expected finite noise above"),
        (linear, {"noise": -1.0}, "noise is"),
        (linear, {"latent_shape": (3,)}, "does not take noise of shape"),
        (lambda z: (z, z), {}, "expected one array of floats"),
        (linear, {"units": fit_scale(np.ones((4, 2)), integers=False)}, "returns shape"),
    ],
    ids=["zero", "negative", "latent", "two", "units"],
)
def test_what_is_no_generator_is_an_input_error(function, wrong, expected):
    with pytest.raises(InputError, match=expected):
        Generator.from_function(function, **{"latent_shape": (Z,), **wrong})


def test_the_closed_forms_are_right():
    """Against a histogram-free estimate: importance sampling with 10^6 draws."""
    rng = np.random.default_rng(1)
    for name in ("z", "x", "both"):
        tilt = case(name)
        mean, covariance = tilt.backbone
        c = rng.multivariate_normal(mean, covariance, 1_000_000)
        f = c @ tilt.a - 0.5 * np.einsum("ni,ij,nj->n", c, tilt.b, c)
        weights = np.exp(f - tilt.log_z)
        assert abs(weights.mean() - 1) < 4.5 * weights.std() / 1e3
        first = (weights[:, None] * c).mean(0)
        assert np.max(np.abs(first - tilt.tilted[0])) < 0.02
    assert log_normal(np.zeros((1, 1)), np.zeros(1), np.eye(1))[0] == -0.5 * np.log(2 * np.pi)
