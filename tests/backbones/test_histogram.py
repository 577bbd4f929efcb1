"""Histograms of continuous columns: the best bins, and the units made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones import fit_units
from tiltflow.backbones.units.bijections import Histogram
from tiltflow.backbones.units.columns import bins_of
from tiltflow.backbones.units.fitting import fit_histogram
from tiltflow.backbones.units.histogram import best_bins, split_to

ROWS = 8_000


def columns(seed: int) -> np.ndarray:
    """Skewed, heavy-tailed, rounded (with its noise) and bounded columns on unlike scales."""
    rng = np.random.default_rng(seed)
    rounded = np.where(rng.random(ROWS) < 0.8, 0, rng.poisson(6, ROWS))
    return np.stack(
        [
            1e4 * rng.lognormal(size=ROWS),
            1e-3 * rng.standard_t(3, ROWS),
            rounded + rng.uniform(-0.5, 0.5, ROWS),
            rng.random(ROWS),
        ],
        axis=1,
    ).astype(np.float32)


@pytest.fixture(scope="module")
def units() -> Histogram:
    return fit_histogram(columns(0))


def encoded(units, x):
    return np.asarray(jax.jit(jax.vmap(units.encode))(x))


def decoded(units, y):
    return np.asarray(jax.jit(jax.vmap(units.decode))(y))


def test_edges_lie_where_the_density_jumps():
    """A density of two levels gets one edge, where they meet; a uniform one gets none."""
    rng = np.random.default_rng(1)
    step = np.where(rng.random(ROWS) < 0.9, rng.uniform(0, 1, ROWS), rng.uniform(1, 4, ROWS))
    edges, shares = best_bins(step)
    assert len(edges) == 5  # two bins, and one beyond the data on either side
    np.testing.assert_allclose(edges[2], 1.0, atol=0.01)
    np.testing.assert_allclose(shares[1:3], [0.9, 0.1], atol=4 * np.sqrt(0.09 / ROWS))
    assert len(best_bins(rng.random(ROWS))[0]) == 4


def test_shares_are_of_the_rows_and_bins_increase():
    for column in columns(2).T:
        edges, shares = best_bins(column)
        assert np.all(np.diff(edges) > 0)
        counts = np.histogram(column, edges)[0][1:-1]
        np.testing.assert_allclose(shares[1:-1] * (ROWS + 2), counts, atol=1.5)
        np.testing.assert_allclose(shares.sum(), 1.0)


def test_splitting_bins_leaves_the_density_alone():
    edges, shares = best_bins(columns(3)[:, 0])
    more_edges, more_shares = split_to(edges, shares, len(shares) + 7)
    assert len(more_shares) == len(shares) + 7
    middles = (more_edges[1:] + more_edges[:-1]) / 2
    density = (shares / np.diff(edges))[np.searchsorted(edges, middles) - 1]
    np.testing.assert_allclose(more_shares / np.diff(more_edges), density)


def test_a_value_that_most_rows_have_is_not_split_into_what_float32_cannot_tell_apart():
    column = np.where(np.arange(ROWS) % 10, 1e4, np.linspace(1e4, 1e4 + 1, ROWS))
    edges, _ = split_to(*best_bins(column), 64)
    assert np.all(np.diff(edges.astype(np.float32)) > 0)


def test_tables_of_different_size_have_histograms_of_the_same_shape():
    shapes = {fit_histogram(columns(4)[:rows]).mass.shape for rows in (300, 500, 900)}
    assert shapes == {(4, 128)}


def test_the_density_of_a_histogram_is_that_of_its_units():
    """In NumPy, where units are chosen; beyond the edges, too."""
    x = columns(5)
    units = fit_histogram(x[::2])
    out = np.concatenate([x[1::2], x[:4] + 10 * np.ptp(x, axis=0)]).astype(np.float32)

    def one(x):
        y, log_det = units.encode_and_log_det(x)
        return log_det + jnp.sum(jax.scipy.stats.norm.logpdf(y))

    expected = np.asarray(jax.jit(jax.vmap(one))(out))
    bins = bins_of(x[::2], x[::2], np.zeros(x.shape[1]))
    found = sum(one.log_density(new) for one, new in zip(bins, out.T, strict=True))
    np.testing.assert_allclose(found[:-4], expected[:-4], atol=0.02)
    np.testing.assert_allclose(found[-4:], expected[-4:], rtol=0.01)


def far_from_normal(y: np.ndarray) -> float:
    """The largest Kolmogorov distance of a column from the normal, in 1 / sqrt(rows)."""
    return max(stats.kstest(column, "norm").statistic for column in y.T) * np.sqrt(len(y))


def test_columns_that_were_not_fitted_are_nearly_standard_normal(units):
    """Two samples and bins of a smooth density: 2.5 is beyond the 99.9% point of both."""
    assert far_from_normal(encoded(units, columns(4))) < 2.5
    standardised = fit_units("standardise", columns(0), integers=False)
    assert far_from_normal(encoded(standardised, columns(4))) > 5  # power


def test_the_density_is_that_of_the_columns(units):
    """Held-out nats come close to the truth's, and standardisation's do not."""
    x = columns(5)
    truth = stats.lognorm(1, scale=1e4).logpdf(x[:, 0]) + stats.t(3, scale=1e-3).logpdf(x[:, 1])
    cells = np.floor(x[:, 2] + 0.5)
    truth += np.log(0.8 * (cells == 0) + 0.2 * stats.poisson(6).pmf(cells))

    def behind(units) -> float:
        y, log_det = jax.jit(jax.vmap(units.encode_and_log_det))(x)
        log_q = stats.norm.logpdf(np.asarray(y, np.float64)).sum(axis=1) + np.asarray(log_det)
        return float(np.mean(truth - log_q))

    assert -0.02 < behind(units) < 0.1
    assert behind(fit_units("standardise", columns(0), integers=False)) > 1.0  # power


def test_round_trips_inside_at_the_edges_and_beyond(units):
    edges = np.asarray(units.edges).T
    span = edges[-1] - edges[0]
    x = np.concatenate([columns(6)[:500], edges, edges[:1] - span, edges[-1:] + 3 * span])
    back = decoded(units, encoded(units, x.astype(np.float32)))
    assert np.max(np.abs(back - x) / span) < 2e-4
    y = np.linspace(-28, 28, 121)[:, None] + np.zeros(4)  # beyond, float32 has no such tail
    np.testing.assert_allclose(encoded(units, decoded(units, y)), y, atol=0.05)


def test_columns_stay_increasing_and_tails_are_linear(units):
    edges = np.asarray(units.edges, np.float64).T
    span = edges[-1] - edges[0]
    x = edges[0] - span + 3 * span * np.linspace(0, 1, 2_001)[:, None]
    y = encoded(units, jnp.asarray(x, jnp.float32))
    assert np.all(np.diff(y, axis=0) >= 0)
    np.testing.assert_allclose(np.diff(y[:300], 2, axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.diff(y[-300:], 2, axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 5, 30])
def test_few_or_equal_rows_are_fine(rows):
    x = np.stack([np.full(rows, 3.0), np.arange(rows) % 3], axis=1).astype(np.float32)
    units = fit_histogram(x)
    y, log_det = jax.jit(jax.vmap(units.encode_and_log_det))(x)
    assert np.all(np.isfinite(y))
    assert np.all(np.isfinite(log_det))
    np.testing.assert_allclose(decoded(units, y), x, atol=1e-3)
