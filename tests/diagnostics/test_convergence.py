"""R-hat, effective sizes and autocorrelation on chains whose answers are known."""

import numpy as np
import pytest
from scipy import stats

from tiltflow.diagnostics.convergence import autocorrelation, ess_bulk, ess_tail, rhat


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


def test_rhat_is_that_of_the_paper():
    for phi, shift in ((0.0, 0.0), (0.9, 0.0), (0.5, 0.3)):
        x = autoregressive(phi)[..., 0] + shift * np.arange(32)[:, None] / 10
        assert rhat(x) == pytest.approx(rhat_by_the_formulas(x), abs=2e-3)


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


def test_more_quantities_than_a_part_in_any_shape():
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


def test_autocorrelation_of_an_autoregression():
    curve = autocorrelation(autoregressive(0.8, draws=5000)[..., 0], 20)
    np.testing.assert_allclose(curve, 0.8 ** np.arange(21), atol=0.03)


def test_chains_on_levels_of_their_own_stay_correlated():
    x = autoregressive(0.0)[..., 0] + 2 * np.arange(32)[:, None] / 32 * 4
    assert autocorrelation(x, 50)[50] > 0.5
