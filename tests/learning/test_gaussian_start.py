"""A coupling flow starts at the normal density of its rows, exactly, and is never behind it."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.backbones.units.normal import standard
from tiltflow.learning import BackboneSettings, Rows, fit_backbone
from tiltflow.learning.gaussian_start import at_normal


def correlated(rows, seed):
    mix = np.random.default_rng(0).normal(size=(3, 8))
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, 3)) @ mix + 0.1 * rng.normal(size=(rows, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def problem():
    train, val = correlated(1_200, 1), correlated(400, 2)
    units = fit_units("standardise", train, integers=False)
    flow = CouplingFlow(
        units, num_blocks=3, width=16, base=standard(8), key=jr.key(0)
    )  # its permutations are none of the identity
    return at_normal(
        flow, *(rows := [Rows(x, units, False) for x in (train, val)]), key=jr.key(1)
    ), rows


def nll(flow, x):
    return -float(np.mean(jax.jit(jax.vmap(flow.log_prob))(x)))


def test_it_is_the_normal_density_of_the_rows(problem):
    flow, (train, _) = problem
    x, out = train.array(), correlated(2_000, 3)
    mean, covariance = x.mean(axis=0), np.cov(x.T, bias=True)
    u = np.linalg.solve(np.linalg.cholesky(covariance), (out - mean).T)
    expected = (
        0.5 * np.mean(np.sum(u**2, axis=0)) + 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    assert nll(flow, out) == pytest.approx(expected, abs=0.02)
    wrong = eqx.tree_at(lambda f: f.base, flow, standard(8))
    assert nll(wrong, out) > expected + 1  # power: what there is to be gained


def test_draws_have_the_covariance_of_the_rows(problem):
    flow, (train, _) = problem
    draws = jax.jit(jax.vmap(flow.push))(jr.normal(jr.key(2), (20_000, 8)))
    found, expected = np.corrcoef(np.asarray(draws).T), np.corrcoef(train.array().T)
    assert np.abs(found - expected).max() < 0.03


def test_learning_that_leads_nowhere_leaves_the_start(problem):
    flow, rows = problem
    settings = BackboneSettings(steps=250, rate=0.5, patience=1, memory=0.0)
    kept, score = fit_backbone(flow, *rows, settings, key=jr.key(3))
    assert score == pytest.approx(nll(flow, rows[1].array()), abs=1e-4)
    np.testing.assert_array_equal(kept.base.inverse, flow.base.inverse)
    assert nll(kept, rows[1].array()) == pytest.approx(score, abs=1e-4)


def test_the_base_is_not_learned(problem):
    flow, rows = problem
    kept, score = fit_backbone(flow, *rows, BackboneSettings(steps=250, rate=1e-3), key=jr.key(4))
    np.testing.assert_array_equal(kept.base.inverse, flow.base.inverse)
    assert score <= nll(flow, rows[1].array()) + 1e-4
