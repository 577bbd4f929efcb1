"""A copula of numbers, cells and labels that were made by one: its order, correlations and nats."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones import fit_units
from tiltflow.backbones.cells import cells_of
from tiltflow.backbones.copula import moments_between
from tiltflow.data.grids import Grid
from tiltflow.learning import Rows
from tiltflow.learning.fit_copula import fit_copula, in_order

ROWS = 4_000
SHUFFLED = np.array([2, 0, 3, 1])  # the label of each interval
CORRELATION = np.array(
    [[1.0, 0.6, -0.5, 0.2], [0.6, 1.0, -0.3, 0.4], [-0.5, -0.3, 1.0, 0.5], [0.2, 0.4, 0.5, 1.0]]
)
CUTS = np.array([-0.8, 0.1, 0.9])


def rows(seed):
    """A number, one on a grid, four labels and two of another."""
    z = np.random.default_rng(seed).multivariate_normal(np.zeros(4), CORRELATION, ROWS)
    label = SHUFFLED[np.searchsorted(CUTS, z[:, 2])]
    grid = 0.5 * np.floor(z[:, 1] / 0.5)
    return np.stack([z[:, 0], grid, label, z[:, 3] > 0.3], axis=1).astype(np.float32)


def as_rows(x, units=None):
    step = np.array([0.0, 0.5, 1.0, 1.0], np.float32)
    grid = Grid(step, np.zeros(4, np.float32))
    units = units or fit_units("histogram", x, integers=False, grid=grid)
    return Rows(x, units, integers=False, steps=step)


@pytest.fixture(scope="module")
def train():
    return as_rows(rows(0))


def copula_of(train, labels):
    cells = cells_of(train.units, train.array(), np.asarray(train.steps))
    assert cells is not None
    return fit_copula(train, cells, labels, key=jr.key(0))


def log_probs(density, some):
    y, log_det = some.every(jr.key(1), 1)
    score = jax.jit(lambda y: jax.lax.map(density.log_prob, y, batch_size=500))
    return np.asarray(score(y.reshape(-1, 4)) + log_det.ravel(), float)


def test_what_made_the_rows_is_found(train):
    """In labels' own order the twin finds no such correlations, and is behind by many nats."""
    found, twin = copula_of(train, [2, 3]), copula_of(train, [])
    places = np.asarray(found.order)
    assert places[0] == 0
    at = list(places).index(2) - 1
    told = np.argsort(np.asarray(found.cells.low)[at, 1:5])
    assert told.tolist() in (SHUFFLED.tolist(), SHUFFLED[::-1].tolist())

    def apart(density):
        factor = np.asarray(density._factor())
        expected = CORRELATION[np.ix_(places, places)]
        return np.max(np.abs(np.abs(factor @ factor.T) - np.abs(expected)))

    assert apart(found) < 0.07
    assert apart(twin) > 0.2
    new = as_rows(rows(1), train.units)
    gain = log_probs(found, new) - log_probs(twin, new)
    assert np.mean(gain) > 0.1 + 3 * np.std(gain) / np.sqrt(ROWS)


def test_the_order_of_pieces_of_a_normal_number():
    rng = np.random.default_rng(3)
    z = rng.normal(size=3_000)
    level = SHUFFLED[np.searchsorted(CUTS, z)] + 1
    known = np.stack([0.5 * z + rng.normal(size=3_000), rng.normal(size=3_000)], axis=1)
    expected = (SHUFFLED + 1).tolist()
    assert in_order(known, level).tolist() in (expected, expected[::-1])
    assert in_order(known[:, :0], level).tolist() == [1, 2, 3, 4]  # nothing to go by


def test_moments_between_two_numbers():
    low = np.array([-40.0, -3.0, -0.2, 0.01, 2.0, 4.0, -1.0])
    high = np.array([-1.0, 40.0, 0.3, 0.03, 2.5, 40.0, -0.999])
    log_mass, mean, variance = moments_between(*(jnp.asarray(x, jnp.float32) for x in (low, high)))
    truth = stats.truncnorm(low, high)
    np.testing.assert_allclose(
        log_mass, np.log(stats.norm.cdf(high) - stats.norm.cdf(low)), atol=2e-3
    )
    np.testing.assert_allclose(mean, truth.mean(), atol=2e-3)
    np.testing.assert_allclose(variance, truth.var(), atol=2e-3)
