"""The linear tilt of an ensemble: closed forms, what is refused, and what cross-fitting is for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

from tiltflow.backbones import CouplingFlow, Ensemble, MixtureDensity, fit_units
from tiltflow.backbones.units.normal import standard
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning import linear_weights as module
from tiltflow.learning.fit_linear import fit_linear
from tiltflow.learning.linear_weights import (
    CEILING,
    Sides,
    Weighed,
    best_weights,
    cross_fitted,
    weigh,
)
from tiltflow.learning.start import is_zero
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import f_of, scored
from tiltflow.tilts import LinearTilt, MLPTilt, Tilt
from tiltflow.tilts.linear import features

SETTINGS = TiltSettings(learner="linear", bank=8_000)
APART = 1.5  # of the two members' means from 0
X = np.linspace(-8, 8, 4_001)


def ensemble(apart=APART):
    """Half N(-apart, 1), which is the transport, and half N(apart, 1)."""
    units = fit_units("standardise", np.array([[-1.0], [1.0]], np.float32), integers=False)
    base = standard(1)
    base = base.__class__(jnp.full(1, -apart), base.matrix, base.inverse, base.log_det, (1,))
    flow = CouplingFlow(units, num_blocks=0, width=1, base=base, key=jr.key(0))
    other = MixtureDensity(jnp.zeros(1), jnp.full((1, 1), apart), jnp.zeros((1, 1, 1)))
    return Ensemble(flow, (other,), jnp.log(jnp.array([0.5, 0.5])))


def log_q(x):
    return np.logaddexp(norm.logpdf(x, -APART), norm.logpdf(x, APART)) - np.log(2)


def both(x, q):
    """The same rows as those learned from, and as those held out."""
    rows = Rows(x, q.units, integers=False)
    return rows, rows


def fitted(draw, rows=2_000, seed=0):
    x = draw(np.random.default_rng(seed), rows).astype(np.float32)[:, None]
    q = ensemble()
    return q, *fit_linear(q, *both(x, q), SETTINGS, key=jr.key(seed))


def between(rng, rows):
    """Their normalised product of square roots is N(0, 1), which no mixture of them is."""
    return rng.normal(size=rows)


def test_the_product_of_members_is_found():
    q, tilt, judgement, told = fitted(between)
    truth = norm.logpdf(X)
    gain = np.trapezoid(np.exp(truth) * (truth - log_q(X)), X)
    assert abs(told.gain - gain) < 3 * told.error
    assert told.error < 0.1 * gain
    f = np.asarray(jax.vmap(tilt)(X[:, None].astype(np.float32)), float)
    log_p = f + log_q(X) - float(judgement.log_z)
    assert np.trapezoid(np.exp(log_p), X) == pytest.approx(1, abs=0.03)
    assert np.trapezoid(np.exp(truth) * (truth - log_p), X) < 0.01
    assert np.trapezoid(np.exp(log_p) * f, X) == pytest.approx(0, abs=0.05)
    assert not is_zero(tilt, q)


def test_at_the_best_weights_draws_have_the_mean_of_the_rows_but_for_the_ridge():
    """Wherever Newton's steps have to be halved to get there: the target is far out."""
    chance = np.random.default_rng(0)
    draws, target = chance.normal(size=(2_000, 3)) ** 3, np.array([3.0, -2.0, 0.5])
    for ridges in (np.zeros(3), np.array([1e-2, 0.0, 1.0])):
        weights = best_weights(target, draws, ridges)
        mean = softmax(draws @ weights) @ draws
        np.testing.assert_allclose(mean, target - 2 * ridges * weights, atol=1e-3)


def test_where_nothing_is_to_be_gained_it_is_nothing():
    """Of rows of the ensemble itself, in at least 8 of 10 sets; and of too few rows to tell."""

    def own(rng, rows):
        return rng.normal(size=rows) + APART * rng.choice([-1, 1], rows)

    found = [fitted(own, rows=300, seed=seed) for seed in range(10)]
    assert sum(told.is_taken for *_, told in found) <= 2
    refused = next((q, tilt, told) for q, tilt, _, told in found if not told.is_taken)
    assert is_zero(refused[1], refused[0])
    assert not fitted(between, rows=10)[3].is_taken


def test_cross_fitting_sees_weights_that_are_learned_by_heart():
    """Features of noise, and few rows: weights judged by their own rows gain, by others lose."""
    chance = np.random.default_rng(0)
    rows, draws = chance.normal(size=(40, 6)), chance.normal(size=(4_000, 6))
    weights = best_weights(rows.mean(axis=0), draws, np.full(6, 2e-3))
    own = np.mean(rows @ weights) - np.log(np.mean(np.exp(draws @ weights)))
    told = cross_fitted(Sides(rows[:, None], draws), 2e-3, np.arange(6))
    assert own > 0.05
    assert told.gain < 0
    assert not told.is_taken


def test_its_gradient_reaches_coordinates_and_not_the_ensemble():
    q = ensemble()
    tilt = LinearTilt(q, jnp.array([0.3, 1.0, -2.0]), 0.1)
    c = jnp.array([0.7])
    slope = jax.grad(tilt)(c)
    step = 1e-2
    expected = (tilt(c + step) - tilt(c - step)) / (2 * step)
    assert float(slope[0]) == pytest.approx(float(expected), rel=1e-2)
    means = jax.grad(lambda t: t(c))(tilt).ensemble.members[0].means
    assert not np.any(np.asarray(means))


def test_no_draw_weighs_more_than_its_ceiling_lets_it_whatever_its_features(monkeypatch):
    """A few draws that those which weights were fitted to do not tell of would carry the mean."""
    chance = np.random.default_rng(0)
    rows = chance.normal(1.0, 1.0, (200, 1, 1))
    known, others = chance.normal(size=(2, 4_000, 1))
    others[::500] = 12.0

    def largest():
        f = weigh(Sides(rows, known), 2e-3, np.arange(1)).f(others)
        return np.exp(f.max()) / np.mean(np.exp(f))

    assert largest() < 2 * np.exp(CEILING)
    monkeypatch.setattr(module, "CEILING", np.inf)  # power
    assert largest() > 4 * np.exp(CEILING)


def test_f_is_as_it_was_weighed_and_never_above_its_ceiling():
    q = ensemble()
    network = MLPTilt(1, width=4, depth=1, key=jr.key(0))
    network = eqx.tree_at(lambda t: t.layers[-1].weight, network, jnp.ones((1, 4)))
    weights = jnp.array([0.3, 1.0, -2.0, 3.0])
    tilt = LinearTilt(q, weights, 0.1, ceiling=0.5, network=network)
    c = jnp.linspace(-8, 8, 101)[:, None]
    said = jax.vmap(lambda c: features(q, c, network))(c)
    f = np.asarray(jax.vmap(tilt)(c))
    weighed = Weighed(np.asarray(weights, float), 0.5).f(np.asarray(said, float)) - 0.1
    np.testing.assert_allclose(f, weighed, rtol=1e-4, atol=1e-4)
    assert f.max() < 0.5 - 0.1 + 1e-6
    assert np.max(np.asarray(said @ weights)) > 1
    on_host = scored(TiltedModel(q, tilt), np.asarray(c))
    np.testing.assert_allclose(on_host.f, f, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(on_host.log_q, jax.vmap(q.log_prob_coordinates)(c), rtol=1e-5)
    plain = LinearTilt(q, weights, 0.1, network=network)
    np.testing.assert_allclose(jax.vmap(plain)(c), said @ weights - 0.1, rtol=1e-5, atol=1e-4)


class Half(Tilt):
    """-y^2 / 2 over N(0, 1) is what the rows have and no member says."""

    level: jax.Array

    def __call__(self, c, key=None):
        return -0.5 * c[0] ** 2


def test_what_a_network_has_found_is_one_more_feature_where_it_is_worth_having():
    def narrow(rng, rows):
        return rng.normal(size=rows) / np.sqrt(2)

    def weighed(network):
        x = narrow(np.random.default_rng(0), 2_000).astype(np.float32)[:, None]
        q = ensemble()
        return fit_linear(q, *both(x, q), SETTINGS, key=jr.key(0), network=network)

    tilt, judgement, told = weighed(Half(jnp.zeros(())))
    _, _, without = weighed(None)
    assert list(told.features) == [0, 1, 2, 3]
    assert told.gain > without.gain - told.error
    log_p = np.asarray(jax.vmap(tilt)(X[:, None].astype(np.float32)), float) + log_q(X)
    truth = norm.logpdf(X, scale=np.sqrt(0.5))
    log_p -= float(judgement.log_z)
    assert np.trapezoid(np.exp(truth) * (truth - log_p), X) < 0.02
    useless, _, told = weighed(Useless(jnp.zeros(())))
    assert list(told.features) == [0, 1, 2]
    assert float(useless.weights[3]) == 0


class Useless(Half):
    """Nothing that rows and draws differ in."""

    def __call__(self, c, key=None):
        return jnp.sin(1e4 * c[0])


def test_each_kind_has_its_share_of_the_data_and_rows_that_were_learned_tell_of_it(monkeypatch):
    """Even in q, uneven among rows, of which few are held out; members are symmetric in it."""

    def of_kinds(rows, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=rows) + 3 * rng.choice([-1, 1], rows, p=[0.2, 0.8])
        return Rows(x.astype(np.float32)[:, None], q.units, integers=False)

    def share():
        """Of the tilted model, above 0."""
        tilt, *_ = fit_linear(q, of_kinds(4_000, 0), of_kinds(60, 1), SETTINGS, key=jr.key(0))
        f = np.asarray(jax.vmap(tilt)(X[:, None].astype(np.float32)), float)
        log_q = jax.vmap(q.log_prob_coordinates)(X[:, None].astype(np.float32))
        p = np.exp(f + np.asarray(log_q, float))
        return p[X > 0].sum() / p.sum()

    transport = ensemble(apart=0.0).transport
    means = jnp.array([[-3.0], [3.0]])
    mixture = MixtureDensity(jnp.zeros(2), means, jnp.zeros((2, 1, 1)))
    q = Ensemble(transport, (mixture,), jnp.log(jnp.array([0.1, 0.9])))
    of_all = np.mean(
        np.concatenate([of_kinds(n, i).array() for i, n in enumerate((4_000, 60))]) > 0
    )
    assert abs(share() - of_all) < 0.02  # the ridge takes a little
    of_kinds_tilt = LinearTilt(q, jnp.array([0.0, 0.5, -0.5, 2.0, -1.0]), 0.1, kinds=True)
    f = jax.vmap(of_kinds_tilt)(X[:, None].astype(np.float32))
    np.testing.assert_allclose(f_of(of_kinds_tilt, X[:, None].astype(np.float32)), f, atol=1e-3)
    monkeypatch.setattr(module, "RIDGE_OF_KINDS", 1e3)  # power: kinds have no weight
    assert abs(share() - of_all) > 0.15
