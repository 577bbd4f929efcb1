"""Tilts of x, of z and of both over probabilistic PCA: chains, log Z and likelihoods are true.

One program serves all three tilts over the joint coordinates, whose numbers are traced.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_gaussian import CASES, Z, case, generator

from tiltflow.backbones import Prior
from tiltflow.evaluation.likelihood import likelihood, of_bounds, score
from tiltflow.evaluation.posterior import PosteriorSettings, annealed_rows
from tiltflow.learning import Rows
from tiltflow.mcmc import sample
from tiltflow.model.log_normalizer import exact_f, f_at
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ, bridge
from tiltflow.normalizer.annealed import LadderSettings, annealed
from tiltflow.normalizer.gain import CERTAIN

CHAINS, LENGTH = 64, 400
LADDER = LadderSettings(particles=512, least_rounds=1, most_rounds=1)
every_case = pytest.mark.parametrize("name", CASES)


def joint(name: str) -> TiltedModel:
    return TiltedModel(generator(), case(name).tilt)


def latent(name: str) -> TiltedModel:
    """The tilt of z over the generator's prior."""
    return TiltedModel(Prior(generator()), case(name).of(slice(Z)))


def flipped(model: TiltedModel) -> TiltedModel:
    """Broken: f is taken for an energy. Half of it, so that there is a density at all."""
    return eqx.tree_at(lambda m: (m.tilt.a, m.tilt.b), model, (-model.tilt.a, 0 * model.tilt.b))


def chains(model: TiltedModel, seed: int) -> np.ndarray:
    start = jr.normal(jr.key(seed), (CHAINS, *model.backbone.latent_shape))
    draws = sample(
        jr.key(seed + 1), model.latent_log_densities, start, num_draws=LENGTH, num_warmup=200
    )
    return np.asarray(draws.positions)


@pytest.fixture(scope="module")
def drawn():
    """Latent chains of every model."""
    found = {name: (joint(name), chains(joint(name), 10)) for name in CASES}
    return {**found, "prior": (latent("z"), chains(latent("z"), 20))}


def check_moments(model: TiltedModel, u: np.ndarray, mean, covariance) -> None:
    """First and second moments of z and x, within 4.5 standard errors over chains."""

    def known(u):
        z = u[:Z]
        return jnp.concatenate([z, model.backbone.push(u)])

    c = np.asarray(jax.jit(jax.vmap(jax.vmap(known)))(jnp.asarray(u)), np.float64)
    products = (c[..., :, None] * c[..., None, :]).reshape(*c.shape[:2], -1)
    truth = np.concatenate([mean, (covariance + np.outer(mean, mean)).ravel()])
    found = np.concatenate([c, products], axis=-1).mean(axis=1)  # [chains, statistics]
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.max(np.abs(found.mean(axis=0) - truth) / error) < 4.5


@pytest.mark.parametrize("name", [*CASES, "prior"])
def test_chains_have_the_moments_of_the_tilted_model(drawn, name):
    model, u = drawn[name]
    truth = case("z" if name == "prior" else name)
    check_moments(model, u, *truth.tilted)
    with pytest.raises(AssertionError):  # power: the backbone's moments are others
        check_moments(model, u, *truth.backbone)
    with pytest.raises(AssertionError):
        check_moments(model, chains(flipped(model), 30), *truth.tilted)


def check_log_z(found: LogZ, truth: float) -> None:
    assert found.holds
    assert abs(found.mean - truth) < 4 * found.standard_error
    assert found.high - found.low < 0.2


@pytest.mark.parametrize("name", [*CASES, "prior"])
def test_the_bridge_covers_the_truth(drawn, name):
    model, u = drawn[name]
    truth = case("z" if name == "prior" else name).log_z
    f_q, f_p = exact_f(model, 20_000, jr.key(40)), f_at(model, jnp.asarray(u))
    check_log_z(bridge(np.asarray(f_q), np.asarray(f_p)), truth)
    with pytest.raises(AssertionError):  # power: the sign of f
        check_log_z(bridge(-np.asarray(f_q), -np.asarray(f_p)), truth)


@every_case
def test_the_ladder_covers_the_truth(drawn, name):
    model, u = drawn[name]
    found = annealed(model.latent_log_densities, u, key=jr.key(41), settings=LADDER)
    check_log_z(found, case(name).log_z)
    with pytest.raises(AssertionError):
        check_log_z(found, case(name).log_z + 0.2)


@pytest.fixture(scope="module")
def rows():
    """400 rows of a model that is neither q nor p."""
    rng = np.random.default_rng(5)
    mean, covariance = case("both").tilted
    c = rng.multivariate_normal(0.5 * mean, covariance, 400)
    return Rows(jnp.asarray(c[:, Z:], jnp.float32), generator().units, integers=False)


def x_of(rows: Rows) -> np.ndarray:
    return np.asarray(rows.array(), np.float64)


@pytest.mark.parametrize("name", [*CASES, "prior"])
def test_bounds_of_the_likelihood_close_in_on_the_truth(rows, name):
    """With 500 draws the importance-weighted bound is off by less than its own noise."""
    truth = case("z" if name == "prior" else name)
    model = latent("z") if name == "prior" else joint(name)
    scores = score(model, rows, jr.key(50), draws=500)
    for bound, slack in (("variational", 2.0), ("importance", 0.01)):
        log_q, log_p = scores.of_rows(bound)
        below_q = truth.log_q(x_of(rows)) - log_q
        below_p = truth.log_p(x_of(rows)) - (log_p - truth.log_z)
        for below in (below_q, below_p):
            error = below.std() / np.sqrt(len(below)) + 1e-3
            assert -4 * error < below.mean() < slack + 4 * error
            assert bound == "importance" or below.mean() > 4 * error  # a gap that is seen


@pytest.mark.parametrize("name", [*CASES, "prior"])
def test_the_gain_of_the_bound_is_the_encoders_mean_of_f(rows, name):
    """In closed form for the normal encoder and the quadratic f."""
    truth = case("z" if name == "prior" else name)
    model = latent("z") if name == "prior" else joint(name)
    gain = likelihood(score(model, rows, jr.key(51), draws=500), CERTAIN).gain.mean
    mean, log_scale = jax.vmap(generator().encoder)(rows.array())
    c = np.concatenate([np.asarray(mean, np.float64), x_of(rows)], axis=1)
    f = c @ truth.a - 0.5 * np.einsum("ni,ij,nj->n", c, truth.b, c)
    variance = np.exp(2 * np.asarray(log_scale[0], np.float64))
    f -= 0.5 * np.sum(variance * np.diag(truth.b)[:Z])
    error = np.sqrt(np.sum(truth.a[:Z] ** 2 * variance) + 1.0) / np.sqrt(500 * len(f))
    assert abs(gain - f.mean()) < 4.5 * error


def check_annealed(model: TiltedModel, rows: Rows, truth, log_z: float) -> None:
    """Annealed bounds lie below the truth, by less than half of the variational bound's gap."""
    gaps = score(model, rows, jr.key(60), draws=100).of_rows("variational")
    found = annealed_rows(
        model, rows, jr.key(61), PosteriorSettings(rungs=6, particles=4, part=150)
    )
    true = truth.log_q(x_of(rows)), truth.log_p(x_of(rows)) + log_z
    for exact, bound, loose in zip(true, found, gaps, strict=True):
        below, widest = exact - bound, (exact - loose).mean()
        error = below.std() / np.sqrt(len(below))
        assert -4 * error < below.mean() < 0.5 * widest
        assert error < 0.2 * widest


@pytest.mark.parametrize("name", ["both", "prior"])
def test_annealing_to_the_posterior_bounds_the_likelihood_closely(rows, name):
    model = latent("z") if name == "prior" else joint(name)
    truth = case("z" if name == "prior" else name)
    check_annealed(model, rows, truth, truth.log_z)
    with pytest.raises(AssertionError):  # power: a bound above the truth
        check_annealed(model, rows, truth, truth.log_z - 0.3)


def test_intervals_of_the_annealed_likelihood_hold_the_rows_mean(rows):
    model, truth = joint("both"), case("both")
    log_q, log_p = annealed_rows(
        model, rows, jr.key(62), PosteriorSettings(rungs=6, particles=4, part=150)
    )
    f_q = np.asarray(exact_f(model, 20_000, jr.key(63)))
    log_z = bridge(f_q, np.asarray(f_at(model, jnp.asarray(chains(model, 64)))))
    found = of_bounds(log_q, log_p, log_z)
    assert found.tilted.low < -truth.log_p(x_of(rows)).mean() < found.tilted.high
    assert found.backbone.low < -truth.log_q(x_of(rows)).mean() < found.backbone.high
    assert found.tilted.holds
