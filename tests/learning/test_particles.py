"""Particles: resampling is unbiased, witnesses stay witnesses, agreement is in standard errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from exact_particles import exact
from scipy import stats

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.learning import particles as parts
from tiltflow.mcmc import hmc
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import CoordinateTilt, MLPTilt
from tiltflow.tilts.base import freeze


@pytest.fixture(scope="module")
def backbone():
    x = np.random.default_rng(0).normal(size=(100, 2)) * 3 + 1
    units = fit_units("standardise", x, integers=False)
    return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))


LOG_WEIGHTS = jnp.log(jnp.asarray([0.03, 0.3, 0.02, 0.15, 0.25, 0.05, 0.13, 0.07])) + 40.0


def check_unbiased(resampler):
    """Each index is drawn n times its weight on average, within 4.5 standard errors."""
    number = 4_000
    index = jax.jit(jax.vmap(lambda k: resampler(k, LOG_WEIGHTS)))(jr.split(jr.key(1), number))
    counts = np.asarray(jax.vmap(lambda i: jnp.bincount(i, length=8))(index))
    expected = 8 * np.asarray(jax.nn.softmax(LOG_WEIGHTS))
    error = counts.std(axis=0) / np.sqrt(number) + 1e-3
    assert np.max(np.abs(counts.mean(axis=0) - expected) / error) < 4.5
    return counts, expected


def without_offset(_, log_weights):
    """Broken: the places are not shifted at random."""
    n = len(log_weights)
    cumulated = jnp.cumsum(jax.nn.softmax(log_weights))
    return jnp.searchsorted(cumulated, (jnp.arange(n) + 0.5) / n)


def by_square_root(key, log_weights):
    """Broken: weights are tempered."""
    return parts.systematic(key, 0.9 * log_weights)


def test_systematic_resampling_is_unbiased_and_its_counts_are_the_nearest():
    counts, expected = check_unbiased(parts.systematic)
    assert np.all(counts >= np.floor(expected))
    assert np.all(counts <= np.ceil(expected))
    for broken in (without_offset, by_square_root):
        with pytest.raises(AssertionError):
            check_unbiased(broken)


def test_resampling_keeps_learners_and_witnesses_apart(backbone):
    particles = exact(jr.key(2), backbone, 16, 0.5)
    log_weights = jnp.zeros(16).at[3].set(60.0).at[12].set(60.0)
    index = parts.resample(jr.key(3), particles, log_weights)
    np.testing.assert_array_equal(index, [3] * 8 + [12] * 8)
    assert particles.half == 8
    np.testing.assert_array_equal(jnp.arange(16)[particles.learners], jnp.arange(8))
    np.testing.assert_array_equal(jnp.arange(16)[particles.witnesses], jnp.arange(8, 16))


@pytest.mark.parametrize(
    ("log_weights", "expected"),
    [
        ([0.0] * 5, 1.0),
        ([500.0] * 5, 1.0),
        ([0.0, -1e4, -1e4, -1e4], 0.25),
        ([0.0, 0.0, -1e4], 2 / 3),
    ],
)
def test_the_effective_share_counts_the_weights_that_matter(log_weights, expected):
    np.testing.assert_allclose(parts.effective_share(jnp.asarray(log_weights)), expected, rtol=1e-5)


def test_the_log_mean_exp_survives_large_values():
    values = jnp.asarray([1000.0, 1000.0 + np.log(3.0)])
    np.testing.assert_allclose(parts.log_mean_exp(values), 1000 + np.log(2.0), rtol=1e-6)


def test_agreement_is_a_standard_normal_if_the_halves_are_alike():
    f = 5 + 3 * jr.normal(jr.key(4), (4_000, 200))
    apart = np.asarray(jax.vmap(lambda f: parts.agreement(f, 100))(f))
    assert abs(apart.mean()) < 4.5 / np.sqrt(4_000)
    assert abs(apart.std() - 1) < 0.06
    shifted = f.at[:, :100].add(-3.0)  # learners one standard deviation low
    apart = np.asarray(jax.vmap(lambda f: parts.agreement(f, 100))(shifted))
    np.testing.assert_allclose(apart.mean(), -np.sqrt(50), rtol=0.05)


def test_agreement_of_constants_is_finite():
    assert float(parts.agreement(jnp.zeros(8), 4)) == 0.0


def test_the_first_particles_are_exact_draws(backbone):
    particles = exact(jr.key(5), backbone, 4_000, 0.5)
    for column in np.asarray(particles.u).T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    y = jax.vmap(backbone.coordinates)(particles.u)
    np.testing.assert_allclose(particles.y, y, atol=1e-6)
    np.testing.assert_array_equal(particles.f, jnp.zeros(4_000))


def test_the_tilt_is_read_off_the_latent_density_and_its_gradient_is_autodiffs(backbone):
    def bumpy(y):
        return jnp.sum(jnp.sin(3 * y))

    model = TiltedModel(backbone, CoordinateTilt(bumpy))
    u = jr.normal(jr.key(6), (10, 2))
    state = hmc.init(u, hmc.value_and_gradient(model.latent_log_densities))
    f = jax.vmap(lambda u: bumpy(backbone.coordinates(u)))(u)
    np.testing.assert_allclose(parts.tilt_of(state), f, atol=1e-5)
    gradient = jax.vmap(jax.grad(model.latent_log_density))(u)
    np.testing.assert_allclose(state.gradient, gradient, atol=1e-5)


@pytest.mark.parametrize(
    ("acceptance", "factor"), [(0.8, 1.0), (1.0, 1.15), (0.7, 0.905), (0.0, 0.5)]
)
def test_the_step_size_follows_the_acceptance(acceptance, factor):
    found = parts.adapt(jnp.asarray(2.0), jnp.asarray(acceptance), 0.8)
    np.testing.assert_allclose(found, 2 * factor, rtol=1e-3)


def test_the_level_of_the_tilt_is_not_trained():
    tilt = MLPTilt(2, width=4, key=jr.key(7))
    trained, rest = freeze(tilt)
    assert trained.level is None
    assert rest.level is not None
    assert len(jax.tree.leaves(trained)) == 5
    assert eqx.tree_equal(eqx.combine(trained, rest), tilt)
