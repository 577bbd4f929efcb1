"""Learning from rows plus noise: it is fresh and of its size, and the density is that of both."""

from dataclasses import replace

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tiltflow import Settings
from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.errors import InputError
from tiltflow.evaluation.simple_models import simple_models
from tiltflow.learning import BackboneSettings, Rows, fit_backbone
from tiltflow.learning.rows import noise_of

NOISE = 0.2
COVARIANCE = np.ones((2, 2))  # of the rows: both columns are the same


def layer(number, seed):
    """Rows on a line: they have no density."""
    u = np.random.default_rng(seed).normal(size=number)
    return (np.column_stack([u, u]) * [1.0, 10.0]).astype(np.float32)


def noised(number, seed, noise=NOISE, units=None):
    x = layer(number, seed)
    return Rows(x, units, integers=False, noise=noise_of(x, noise))


@pytest.fixture(scope="module")
def truth():
    """The density of rows plus noise."""
    scale = np.array([1.0, 10.0])
    covariance = (COVARIANCE + NOISE**2 * np.eye(2)) * np.outer(scale, scale)
    return multivariate_normal([0, 0], covariance)


batch = eqx.filter_jit(Rows.batch)


def test_noise_is_fresh_and_of_its_size_in_each_column():
    """The difference of the columns, in units, is noise alone; without noise there is none."""
    rows = noised(2_000, 0)
    first, second = (np.asarray(batch(rows, jr.key(seed), 4_000)[0]) for seed in (0, 1))
    apart = first[:, 0] - first[:, 1] / 10
    error = NOISE * np.sqrt(2) / np.sqrt(2 * 4_000)
    assert abs(apart.std() - NOISE * np.sqrt(2)) < 5 * error
    assert not np.any(first == second)
    assert rows.vary
    assert rows.first(7).noise is not None
    plain = np.asarray(batch(replace(rows, noise=None), jr.key(0), 4_000)[0])
    assert np.abs(plain[:, 0] - plain[:, 1] / 10).max() < 1e-6


@pytest.fixture(scope="module")
def learned():
    """A flow of rows on a line plus noise, and its score on validation rows."""
    x = layer(2_000, 0)
    blurred = x + noise_of(x, NOISE) * np.random.default_rng(5).normal(size=x.shape)
    units = fit_units("whiten", blurred.astype(np.float32), integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=8, key=jr.key(0))
    settings = BackboneSettings(steps=250, batch=128)
    train, val = noised(2_000, 0, units=units), noised(1_000, 1, units=units)
    return fit_backbone(flow, train, val, settings, key=jr.key(1))


def test_what_is_learned_is_the_density_of_rows_plus_noise(learned, truth):
    """To its entropy, within 4 errors of 1,000 rows and a little; rows as they are would give
    a score without bound, far below it."""
    flow, nll = learned
    assert abs(nll - truth.entropy()) < 4 / np.sqrt(1_000) + 0.05
    x = truth.rvs(200, random_state=0)
    found = np.array([flow.log_prob(row.astype(np.float32)) for row in x[:20]])
    np.testing.assert_allclose(found, truth.logpdf(x[:20]), atol=0.5)
    thin = multivariate_normal([0, 0], np.array([[1.0, 9.999], [9.999, 100.0]]))
    assert thin.entropy() < truth.entropy() - 2  # power: less noise would be seen


def test_simple_models_have_the_same_noise(truth):
    rows = {name: noised(2_000, seed) for seed, name in enumerate(("train", "val", "test"))}
    found = {one.name: one.log_prob.mean() for one in simple_models(rows, seed=0)}
    assert abs(found["gaussian"] + truth.entropy()) < 0.1
    plain = {name: replace(one, noise=None) for name, one in rows.items()}
    without = {one.name: one.log_prob.mean() for one in simple_models(plain, seed=0)}
    assert without["gaussian"] > found["gaussian"] + 1


def test_mistakes_are_told():
    with pytest.raises(InputError, match="1 columns are constant"):
        noise_of(np.column_stack([np.ones(5), np.arange(5.0)]), 0.1)
    settings = Settings()
    with pytest.raises(InputError, match="noise is -1"):
        replace(settings, model=replace(settings.model, noise=-1.0)).check(0)
    assert noise_of(layer(5, 0), 0.0) is None
