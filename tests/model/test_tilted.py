"""The tilted model: one formula, pulled back to the latent space without a log-determinant.

The classic bug of this system is a log-determinant left in the latent density. Two checks must
catch it, and a wrong sign of f: one compares log-densities point by point, one compares moments
of draws with quadrature over the plane.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, Ensemble, MixtureDensity, fit_units
from tiltflow.mcmc import hmc
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import CoordinateTilt, MLPTilt


class LogDetLeftIn(TiltedModel):
    """Broken: log|det dy/du| is added, as neural transport of a given density needs it."""

    def latent_log_density(self, u):
        jacobian = jax.jacfwd(self.backbone.coordinates)(u)
        return super().latent_log_density(u) + jnp.linalg.slogdet(jacobian)[1]


class WrongSign(TiltedModel):
    """Broken: f is taken for an energy."""

    def latent_log_density(self, u):
        return -self.tilt(self.backbone.coordinates(u)) - 0.5 * jnp.sum(u**2)


BROKEN = (LogDetLeftIn, WrongSign)


def tilt(y):
    """A tilt that bends: up along a ring, down on one side."""
    return -0.5 * (jnp.linalg.norm(y + 1e-6) - 2.0) ** 2 + 0.7 * jnp.sin(y[0])


@pytest.fixture(scope="module")
def backbone():
    """A plane's flow with weights far from the identity."""
    x = np.random.default_rng(0).normal(size=(500, 2)) * np.array([0.5, 3.0]) + 1.0
    units = fit_units("standardise", x, integers=False)
    flow = CouplingFlow(units, num_blocks=2, width=8, key=jr.key(0))

    def outs(f):
        return [c.out.weight for b in f.blocks for c in (b.to_second, b.to_first)]

    keys = jr.split(jr.key(1), len(outs(flow)))
    drawn = [0.5 * jr.normal(k, w.shape) for k, w in zip(keys, outs(flow), strict=True)]
    return eqx.tree_at(outs, flow, drawn)


def test_a_fresh_model_is_its_backbone_exactly(backbone):
    model = TiltedModel(backbone, MLPTilt(2, width=8, key=jr.key(3)))
    u = jr.normal(jr.key(4), (32, 2))
    expected = jax.vmap(lambda u: -0.5 * jnp.sum(u**2))(u)
    np.testing.assert_array_equal(model.latent_log_densities(u), expected)
    x = jax.vmap(backbone.push)(u)
    found = jax.vmap(lambda x: model.log_prob(x, 0.0))(x)
    np.testing.assert_array_equal(found, jax.vmap(backbone.log_prob)(x))
    np.testing.assert_array_equal(jax.vmap(model.f)(x), jnp.zeros(32))


def test_log_prob_is_f_plus_log_q_minus_log_z(backbone):
    model = TiltedModel(backbone, CoordinateTilt(tilt))
    x = jax.vmap(backbone.push)(jr.normal(jr.key(5), (32, 2)))
    found = jax.vmap(lambda x: model.log_prob(x, 1.25))(x)
    expected = jax.vmap(lambda x: model.f(x) + backbone.log_prob(x) - 1.25)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    u = jax.vmap(backbone.pull)(x)
    f = jax.vmap(lambda u: tilt(backbone.coordinates(u)))(u)
    np.testing.assert_allclose(jax.vmap(model.f)(x), f, atol=1e-4)


def check_pulled_back(model: TiltedModel) -> None:
    """pi(u) |det du/dx| is proportional to exp(f(x)) q(x), formulas (2) and (1)."""
    flow = model.backbone

    def apart(u):
        x = flow.push(u)
        jacobian = jax.jacfwd(flow.pull)(x)
        in_data = model.latent_log_density(u) + jnp.linalg.slogdet(jacobian)[1]
        return in_data - model.log_prob(x, 0.0)

    difference = jax.jit(jax.vmap(apart))(jr.normal(jr.key(6), (64, 2)))
    np.testing.assert_allclose(difference - jnp.mean(difference), 0.0, atol=1e-3)
    np.testing.assert_allclose(jnp.mean(difference), math.log(2 * math.pi), atol=1e-3)


def test_the_latent_density_is_the_models_pulled_back(backbone):
    check_pulled_back(TiltedModel(backbone, CoordinateTilt(tilt)))
    for broken in BROKEN:
        with pytest.raises(AssertionError):
            check_pulled_back(broken(backbone, CoordinateTilt(tilt)))


def test_the_latent_density_of_an_ensemble_is_that_of_its_members(backbone):
    """Pulled back by the transport, whose latent space is not normal any more."""
    ensemble = Ensemble(backbone, (MixtureDensity.standard(2, 2),), jnp.log(jnp.array([0.4, 0.6])))
    check_pulled_back(TiltedModel(ensemble, CoordinateTilt(tilt)))

    class WithoutExcess(Ensemble):
        def excess(self, u, c):
            return jnp.zeros(())

    broken = WithoutExcess(ensemble.transport, ensemble.members, ensemble.log_weights)
    with pytest.raises(AssertionError):
        check_pulled_back(TiltedModel(broken, CoordinateTilt(tilt)))


STATISTICS = ("x0", "x1", "x0^2", "x1^2", "x0 x1")


def statistics(x: np.ndarray) -> np.ndarray:
    """`[..., 2]` to `[..., 5]`: what the moments are of."""
    first, second = x[..., 0], x[..., 1]
    return np.stack([first, second, first**2, second**2, first * second], axis=-1)


@pytest.fixture(scope="module")
def exact_moments(backbone):
    """E_p of the statistics by quadrature of formula (1) over the plane of data."""
    model = TiltedModel(backbone, CoordinateTilt(tilt))
    x = np.asarray(jax.vmap(backbone.push)(jr.normal(jr.key(7), (20_000, 2))))
    axes = np.linspace(x.min(axis=0) - np.ptp(x, axis=0), x.max(axis=0) + np.ptp(x, axis=0), 400)
    grid = np.stack(np.meshgrid(*axes.T, indexing="ij"), axis=-1).reshape(-1, 2)
    log_p = jax.jit(jax.vmap(lambda x: model.log_prob(x, 0.0)))(jnp.asarray(grid, jnp.float32))
    p = np.exp(np.asarray(log_p, np.float64))
    return p @ statistics(grid) / p.sum()


def check_moments(model: TiltedModel, exact: np.ndarray) -> None:
    """Moments of HMC draws from the latent density, within 4.5 standard errors over chains."""
    chains, warm, kept = 512, 40, 60
    latent = hmc.value_and_gradient(model.latent_log_densities)

    @jax.jit
    def run(key):
        def transition(state, key):
            state, _ = hmc.step(key, state, latent, jnp.asarray(0.3), num_leapfrogs=6)
            return state, state.position

        start = hmc.init(jr.normal(key, (chains, 2)), latent)
        u = jax.lax.scan(transition, start, jr.split(key, warm + kept))[1][warm:]
        return jax.vmap(jax.vmap(model.backbone.push))(u)

    draws = statistics(np.asarray(run(jr.key(8)), np.float64)).mean(axis=0)  # [chains, 5]
    error = draws.std(axis=0) / np.sqrt(chains)
    apart = (draws.mean(axis=0) - exact) / error
    assert np.max(np.abs(apart)) < 4.5, dict(zip(STATISTICS, apart, strict=True))


def test_draws_from_the_latent_density_have_the_models_moments(backbone, exact_moments):
    check_moments(TiltedModel(backbone, CoordinateTilt(tilt)), exact_moments)
    for broken in BROKEN:
        with pytest.raises(AssertionError):
            check_moments(broken(backbone, CoordinateTilt(tilt)), exact_moments)
