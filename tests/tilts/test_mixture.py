"""The mixture tilt: log Z = 0, exact draws, and jumps that are accepted on what is added to it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from broken_jumps import FORGETS, SOUND, counted
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from tiltflow.backbones import Generator, Prior
from tiltflow.backbones.units.scale import identity
from tiltflow.errors import InputError
from tiltflow.learning import Rows
from tiltflow.learning.fit_mixture import exact_start, fit_mixture
from tiltflow.mcmc import HMC, ISIR, Independence, run, sample
from tiltflow.model import latent_chains
from tiltflow.model.kernels import kernel_of, suited_kernel
from tiltflow.model.log_normalizer import from_exact, log_normalizer
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.annealed import LadderSettings, annealed
from tiltflow.tilts import Frozen, MixtureTilt, MLPTilt, Sum, Tilt

WEIGHTS = np.array([0.7, 0.3])
MEANS = np.array([[3.0, 0.0], [-3.0, 1.0]])
COVARIANCES = np.array([[[0.3, 0.1], [0.1, 0.2]], [[0.1, 0.0], [0.0, 0.4]]])
FACTORS = np.linalg.cholesky(np.linalg.inv(COVARIANCES))


def factors(lower):
    """Upper triangular U with U U^T = L L^T."""
    flipped = np.linalg.cholesky((lower @ lower.swapaxes(1, 2))[:, ::-1, ::-1])
    return flipped[:, ::-1, ::-1]


@pytest.fixture(scope="module")
def mixture():
    return MixtureTilt(*(jnp.asarray(x) for x in (np.log(WEIGHTS), MEANS, factors(FACTORS))))


def log_density(x):
    parts = [w * multivariate_normal(m, c).pdf(x)
             for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)]  # fmt: skip
    return np.log(np.sum(parts, axis=0))


def model_of(tilt):
    function = Generator.from_function(lambda z: z, (2,), noise=0.1)
    return TiltedModel(Prior(function), tilt)


def test_the_tilted_model_is_the_mixture(mixture):
    x = np.random.default_rng(0).normal(size=(200, 2)) * 3
    log_p = jax.vmap(mixture)(jnp.asarray(x)) + multivariate_normal(np.zeros(2)).logpdf(x)
    np.testing.assert_allclose(log_p, log_density(x), atol=2e-3)
    nothing = jax.vmap(MixtureTilt.standard(3, 2))(jnp.asarray(x))
    np.testing.assert_allclose(nothing, 0.0, atol=1e-4)


@eqx.filter_jit
def drawn(mixture, key, number):
    """All of it one program."""
    return mixture.draw(key, number)


def check_moments(draws):
    """Share of the first mode, means and variances within 4.5 standard errors."""
    first = draws[:, 0] > 0
    error = np.sqrt(WEIGHTS.prod() / len(draws))
    assert abs(first.mean() - WEIGHTS[0]) < 4.5 * error
    for part, mean, covariance in zip((first, ~first), MEANS, COVARIANCES, strict=True):
        rows = draws[part]
        assert np.all(np.abs(rows.mean(0) - mean) < 4.5 * rows.std(0) / np.sqrt(len(rows)))
        products = (rows - mean)[:, :, None] * (rows - mean)[:, None]
        error = products.std(0) / np.sqrt(len(rows))
        assert np.all(np.abs(products.mean(0) - covariance) < 4.5 * error)


def test_draws_are_those_of_the_mixture(mixture):
    check_moments(np.asarray(drawn(mixture, jr.key(0), 20_000), np.float64))
    transposed = MixtureTilt(
        mixture.log_weights, mixture.means, jnp.asarray(FACTORS)
    )  # lower triangular: the solve reads its diagonal alone
    with pytest.raises(AssertionError):
        check_moments(np.asarray(drawn(transposed, jr.key(0), 20_000), np.float64))


def added(u):
    """What is on top of the mixture: a slope, which moves weight between the modes."""
    return 0.4 * u[0]


def on_top(mixture, u):
    """The log-density of what `added` makes of the mixture."""
    return jax.vmap(lambda u: mixture(u) + added(u) - 0.5 * u @ u)(u)


def check_target(kernel, mixture):
    """The share of the right mode, from chains that all start in the left one."""
    start = jnp.broadcast_to(jnp.asarray(MEANS[1], jnp.float32), (64, 2))
    draws = sample(
        jr.key(3),
        jax.tree_util.Partial(on_top, mixture),
        start,
        num_draws=300,
        num_warmup=50,
        kernel=kernel,
        step_size=0.3,
    )
    right = (np.asarray(draws.positions)[:, :, 0] > 0).mean(axis=1)
    odds = WEIGHTS * np.exp(0.4 * MEANS[:, 0] + 0.5 * 0.16 * COVARIANCES[:, 0, 0])
    expected = odds[0] / odds.sum()
    assert abs(right.mean() - expected) < 4.5 * right.std() / 8 + 1e-9


@pytest.mark.parametrize("kind", [Independence, pytest.param(ISIR, marks=pytest.mark.slow)])
def test_jumps_to_a_proposal_leave_the_target_as_it_is(mixture, kind):
    """`ISIR` in the first tier: in `generators/test_two_stages.py`."""
    check_target(kind(proposal=counted(mixture, SOUND)), mixture)
    with pytest.raises(AssertionError):
        check_target(kind(proposal=counted(mixture, FORGETS)), mixture)


def test_chains_travel_where_the_tilt_has_a_mixture_and_stay_where_it_is_hidden(mixture):
    network = MLPTilt(2, width=4, key=jr.key(0))
    model = model_of(Sum(Frozen(mixture), network))
    assert model.mixture is mixture
    kernel = kernel_of(model, None, 8)
    draws = sample(
        jr.key(1), model.latent_log_densities, drawn(mixture, jr.key(2), 32), num_draws=50,
        num_warmup=50, kernel=kernel, step_size=0.3,
    )  # fmt: skip
    crossings = np.abs(np.diff(np.sign(draws.positions[:, :, 0]), axis=1)).sum(axis=1)
    assert np.all(crossings > 0)
    assert model_of(Sum(mixture, network)).mixture is None
    assert model_of(network).mixture is None
    assert isinstance(kernel_of(model_of(network), None, 8), HMC)
    assert suited_kernel(model) == "hmc+jumps"


def test_log_z_is_found_by_chains_that_move_as_suits_the_model(mixture, monkeypatch):
    class Asked(Exception):
        """Chains were asked for."""

    def ask(*arguments, kernel, **how):
        moved.append(kernel)
        raise Asked

    moved, network = [], MLPTilt(2, width=4, key=jr.key(0))
    monkeypatch.setattr(run, "sample", ask)
    for tilt in (Sum(Frozen(mixture), network), network):
        with pytest.raises(Asked):
            log_normalizer(model_of(tilt), key=jr.key(1))
    assert moved[0].parts[1].proposal is mixture
    assert isinstance(moved[1], HMC)


def test_the_pilot_tries_the_kernel_that_suits_the_model(mixture, monkeypatch):
    tried = []
    monkeypatch.setattr(latent_chains, "choose", lambda *given, **how: tried.append(given[3]))
    network = MLPTilt(2, width=4, key=jr.key(0))
    for tilt in (Sum(Frozen(mixture), network), network):
        latent_chains.pilot(model_of(tilt), 4, step_size=0.1, leapfrogs=8)
    assert set(tried[0]) - set(tried[1]) == {"hmc+jumps"}
    assert tried[0]["hmc+jumps"].parts[1].proposal is mixture


class Slope(Tilt):
    """f(c) = 0.4 c[0]."""

    level: jnp.ndarray

    def __call__(self, c, key=None):
        return added(c) - self.level


class Elsewhere(eqx.Module):
    """Says that it draws from one mixture, and draws from another."""

    told: MixtureTilt
    drawn: MixtureTilt

    def latent_log_densities(self, u):
        return self.told.latent_log_densities(u)

    def draw(self, key, number):
        return self.drawn.draw(key, number)


def test_log_z_is_told_from_the_mixture(mixture):
    """Exact draws of the tilted model, too: the slope moves weights and means of the parts."""
    log_odds = np.log(WEIGHTS) + 0.4 * MEANS[:, 0] + 0.5 * 0.16 * COVARIANCES[:, 0, 0]
    moved = MixtureTilt(
        jnp.asarray(log_odds),
        jnp.asarray(MEANS + 0.4 * COVARIANCES[:, :, 0]),
        jnp.asarray(factors(FACTORS)),
    )
    model = model_of(Sum(Frozen(mixture), Slope(jnp.asarray(0.0))))
    draws = moved.draw(jr.key(3), 4_000).reshape(16, 250, 2)
    found = from_exact(model, np.asarray(draws), 20_000, jr.key(4))
    truth = np.log(np.exp(log_odds).sum())
    assert found.holds
    assert abs(found.mean - truth) < 4.5 * found.standard_error
    assert found.standard_error < 0.05
    settings = LadderSettings(particles=1_024, most_rounds=2)
    ladder = annealed(
        model.latent_log_densities, np.asarray(draws), key=jr.key(5), settings=settings,
        mixture=mixture,
    )  # fmt: skip
    assert ladder.holds
    assert abs(ladder.mean - truth) < 4.5 * ladder.standard_error
    assert ladder.standard_error < 0.05
    wrong = MixtureTilt(mixture.log_weights, mixture.means + 0.5, mixture.factors)
    mistaken = annealed(
        model.latent_log_densities, np.asarray(draws), key=jr.key(5), settings=settings,
        mixture=Elsewhere(wrong, mixture),
    )  # fmt: skip
    assert not (mistaken.holds and abs(mistaken.mean - truth) < 4.5 * mistaken.standard_error)
    half = eqx.tree_at(lambda t: t.level, Frozen(mixture), jnp.asarray(0.5))
    shifted = from_exact(model_of(Sum(half, Slope(jnp.asarray(0.0)))), draws, 20_000, jr.key(4))
    assert shifted.mean == pytest.approx(found.mean - 0.5, abs=1e-3)  # a level of the kept part


def test_expectation_maximisation_finds_the_mixture(mixture):
    x = np.asarray(drawn(mixture, jr.key(5), 4_000))
    rows = Rows(jnp.asarray(x), identity((2,)), False)
    found = fit_mixture(rows, 2, key=jr.key(6))
    gain = float(jnp.mean(jax.vmap(found)(x) - jax.vmap(mixture)(x)))
    assert abs(gain) < 0.02
    start = exact_start(found, 20_000, key=jr.key(7))
    first = np.asarray(start.u, np.float64)
    assert abs((first[:, 0] > 0).mean() - WEIGHTS[0]) < 0.03
    assert float(start.log_z) == 0.0
    with pytest.raises(InputError, match="401 components of the tilt for 4000 rows"):
        fit_mixture(rows, 401, key=jr.key(6))


def test_expectation_maximisation_sees_every_row_once(monkeypatch):
    """Not a bootstrap sample of them, which leaves out a third."""
    seen, fit = [], GaussianMixture.fit
    monkeypatch.setattr(GaussianMixture, "fit", lambda self, c: (seen.append(c), fit(self, c))[1])
    values = np.random.default_rng(8).normal(size=(400, 2)).astype(np.float32)
    fit_mixture(Rows(jnp.asarray(values), identity((2,)), integers=False), 2, key=jr.key(6))
    np.testing.assert_array_equal(np.sort(seen[0][:, 0]), np.sort(values[:, 0]))
