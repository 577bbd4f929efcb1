"""R-hat, effective sizes and autocorrelation on chains whose answers are known."""

import blackjax.diagnostics
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tiltflow.diagnostics import convergence as module
from tiltflow.diagnostics.convergence import (
    autocorrelation,
    convergence,
    ess_bulk,
    ess_tail,
    rhat,
    worst,
)


def autoregressive(phi, chains=32, draws=1000, seed=0, quantities=1):
    """AR(1) with unit variance: effective share of the mean (1 - phi) / (1 + phi)."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, draws, quantities))
    x[:, 0] = rng.normal(size=(chains, quantities))
    for t in range(1, draws):
        noise = rng.normal(size=(chains, quantities))
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - phi**2) * noise
    return x


def rhat_by_the_formulas(x):
    """Vehtari et al. 2021, equations 1 to 4 on rank-normalised split chains, and folded."""

    def normalise(x):
        ranks = stats.rankdata(x).reshape(x.shape)
        return stats.norm.ppf((ranks - 0.375) / (x.size + 0.25))

    def plain(x):
        n = x.shape[1]
        within = x.var(axis=1, ddof=1).mean()
        between = n * x.mean(axis=1).var(ddof=1)
        return np.sqrt(((n - 1) / n * within + between / n) / within)

    half = x.shape[1] // 2
    split = np.concatenate([x[:, :half], x[:, -half:]])
    return max(plain(normalise(split)), plain(normalise(np.abs(split - np.median(split)))))


def effective_size_by_the_formulas(x):
    """Geyer's initial monotone sequence as Stan has it, lag after lag; x: split chains."""
    chains, n = x.shape
    centred = x - x.mean(axis=1, keepdims=True)
    lags = [np.mean(np.sum(centred[:, : n - t] * centred[:, t:], axis=1)) / n for t in range(n)]
    within = lags[0] * n / (n - 1)
    total = lags[0] + x.mean(axis=1).var(ddof=1)
    rho = [1.0] + [1 - (within - lag) / total for lag in lags[1:]]
    time, previous, t = -1.0, np.inf, 0
    while t + 1 < n and rho[t] + rho[t + 1] > 0:
        previous = min(previous, rho[t] + rho[t + 1])
        time += 2 * previous
        t += 2
    if t + 1 < n and rho[t] > 0:
        time += rho[t]
    return chains * n / max(time, 1 / np.log10(chains * n))


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.6, 0.95])
def test_all_three_are_those_of_the_formulas(phi):
    """Also with ties, an odd number of draws and a chain apart: exactly, not nearly."""
    x = autoregressive(phi, chains=5, draws=301)[..., 0]
    x[0] += 0.5
    x = np.round(x, 1)
    assert rhat(x) == pytest.approx(rhat_by_the_formulas(x[:, :300]), rel=1e-9)
    split = x[:, :300].reshape(10, 150)
    ranks = stats.rankdata(split).reshape(split.shape)
    normal = stats.norm.ppf((ranks - 0.375) / (split.size + 0.25))
    assert ess_bulk(x) == pytest.approx(effective_size_by_the_formulas(normal), rel=1e-9)
    low, high = np.quantile(split, (0.05, 0.95))
    tails = [effective_size_by_the_formulas(t * 1.0) for t in (split <= low, split >= high)]
    assert ess_tail(x) == pytest.approx(min(tails), rel=1e-9)
    np.testing.assert_array_equal(convergence(x), [rhat(x), ess_bulk(x), ess_tail(x)])
    assert worst(np.stack([x, -x], axis=-1)) == pytest.approx((ess_bulk(x), rhat(x)), rel=1e-9)


def test_blackjax_says_the_same():
    """Its effective sizes end Geyer's sequence a little differently, hence the tolerance."""
    x = autoregressive(0.9, chains=8, draws=500, quantities=2, seed=1)
    x[0] += 0.3
    with jax.enable_x64(True):
        for ours, theirs, tolerance in (
            (rhat, blackjax.diagnostics.rhat, 1e-9),
            (ess_bulk, blackjax.diagnostics.ess_bulk, 5e-3),
            (ess_tail, blackjax.diagnostics.ess_tail, 5e-3),
        ):
            np.testing.assert_allclose(ours(x), jax.jit(theirs)(jnp.asarray(x)), rtol=tolerance)


def test_rhat_sees_chains_apart_in_level_or_in_width():
    x = autoregressive(0.0)[..., 0]
    assert rhat(x) < 1.01
    level, width = x.copy(), x.copy()
    level[0] += 3
    width[::2] *= 3
    assert rhat(level) > 1.01
    assert rhat(width) > 1.1


def test_effective_sizes_of_autoregressions():
    for phi in (0.0, 0.6, 0.9):
        x = autoregressive(phi, quantities=6)
        expected = 32_000 * (1 - phi) / (1 + phi)
        assert np.median(ess_bulk(x)) == pytest.approx(expected, rel=0.15)
        assert np.all(ess_tail(x) > 0.5 * expected)


def test_more_quantities_than_a_part_in_any_shape(monkeypatch):
    monkeypatch.setattr(module, "VALUES", 16 * 32 * 200)
    x = autoregressive(0.3, quantities=35, draws=200)
    together = ess_bulk(x.reshape(32, 200, 5, 7))
    assert together.shape == (5, 7)
    np.testing.assert_allclose(together[2, 3], ess_bulk(x[..., 17]), rtol=1e-5)


def test_constant_and_not_finite_give_nan():
    x = autoregressive(0.0, quantities=3, draws=100)
    x[..., 1] = 2.0
    x[4, 7, 2] = np.inf
    for function in (rhat, ess_bulk, ess_tail):
        values = function(x)
        assert np.isfinite(values[0])
        assert np.isnan(values[1:]).all()


def test_chains_that_do_not_move_have_no_effective_draws():
    assert ess_bulk(np.repeat(np.arange(4.0)[:, None], 50, axis=1)) == 0


def test_too_few_draws_give_nan():
    for draws in (0, 1, 3):
        assert np.isnan(rhat(np.random.default_rng(0).normal(size=(4, draws))))


def test_autocorrelation_of_an_autoregression():
    curve = autocorrelation(autoregressive(0.8, draws=5000)[..., 0], 20)
    np.testing.assert_allclose(curve, 0.8 ** np.arange(21), atol=0.03)


def test_chains_on_levels_of_their_own_stay_correlated():
    x = autoregressive(0.0)[..., 0] + 2 * np.arange(32)[:, None] / 32 * 4
    assert autocorrelation(x, 50)[50] > 0.5


def test_two_values_that_are_equally_frequent_have_an_rhat():
    """As a label that is 0 or 1: both are as far from the median, and folded nothing varies."""
    assert rhat(np.tile([0.0, 1.0], (4, 100))) == pytest.approx(1.0, abs=0.01)
    assert rhat(np.repeat([[0.0], [1.0]], 100, axis=1)) > 1e6
