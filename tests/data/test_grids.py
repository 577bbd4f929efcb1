"""Values on a grid are found, spread over their cells and scored by their mass, in any unit."""

from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest

import tiltflow
from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.data.grids import Grid, grid_of, step_of
from tiltflow.evaluation.likelihood import score
from tiltflow.learning import Rows
from tiltflow.model.fitted import FittedModel
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.tilts import MLPTilt

CHANCE = np.random.default_rng(0)
COUNTS = CHANCE.integers(0, 256, 4_000)
ON_GRIDS = {
    "fractions of 255": (COUNTS / 255, 1 / 255),
    "the same as float32": ((COUNTS / 255).astype(np.float32), 1 / 255),
    "hundredths, far from 0": (np.float32(3 + 0.05 * CHANCE.integers(0, 500, 4_000)), 0.05),
    "two values": (1.1 + 3.7 * (COUNTS % 2), 3.7),
    "rounded": (CHANCE.normal(100, 15, 4_000).round(1), 0.1),
    "gaps of 2 and 3": (np.array([0.0, 2, 5, 8, 10])[COUNTS % 5], 1.0),
}
ON_NONE = {
    "normal": CHANCE.normal(size=1_000),
    "zeros and others": np.where(CHANCE.uniform(size=1_000) < 0.3, 0, CHANCE.normal(size=1_000)),
    "capped": np.minimum(CHANCE.normal(size=1_000), 1.0),
    "each value four times": np.repeat(CHANCE.normal(size=250), 4),
    "constant": np.full(500, 2.5),
}


@pytest.mark.parametrize("name", ON_GRIDS)
def test_steps_of_any_size_are_found(name):
    column, step = ON_GRIDS[name]
    assert step_of(np.asarray(column, np.float64)) == pytest.approx(step, rel=1e-5)


@pytest.mark.parametrize("name", ON_NONE)
def test_what_repeats_without_a_grid_has_none(name):
    assert step_of(ON_NONE[name]) is None


def test_one_row_far_below_that_is_off_makes_a_column_continuous():
    """Steps are looked for among the first rows; all of them have to be on the grid."""
    x = np.stack([COUNTS / 16, COUNTS / 255], axis=1).repeat(6, axis=0).astype(np.float32)
    grid = grid_of(x)
    assert grid is not None
    assert grid.cells.all()
    x[-1, 0] += 0.02
    grid = grid_of(x)
    assert grid is not None
    assert list(grid.cells) == [False, True]


def test_rounding_ends_at_the_value_of_the_cell():
    x = np.stack([COUNTS / 255, CHANCE.normal(size=4_000)], axis=1).astype(np.float32)
    grid = grid_of(x)
    assert grid is not None
    noise = CHANCE.uniform(0.001, 0.999, x.shape) * grid.step
    assert not grid.is_off(grid.round(x + noise)).any()
    np.testing.assert_allclose(grid.round(x + noise), x, atol=1e-6)
    again = Grid.from_dict(grid.to_dict(), (2,))
    np.testing.assert_array_equal(again.step, grid.step)
    assert again.log_cell == pytest.approx(np.log(1 / 255), rel=1e-4)


def test_images_of_fractions_may_have_constant_pixels():
    x = CHANCE.integers(0, 17, (60, 4, 4)).astype(np.float32) / 16
    x[:, 0, 0] = 0
    data = tiltflow.load_data(x)
    assert data.grid is not None
    assert data.grid.cells.all()


def test_a_users_word_goes_before():
    x = np.round(CHANCE.normal(size=(300, 2)), 1)
    assert tiltflow.load_data(x).grid is not None
    assert tiltflow.load_data(x, integers=False).grid is None


@pytest.fixture(scope="module")
def table():
    """Counts below 7, and what goes with them."""
    counts = CHANCE.integers(0, 7, (400, 1))
    return np.concatenate([counts, 0.5 * counts + CHANCE.normal(size=(400, 1))], axis=1)


IN_255THS = [255.0, 1.0]


def untilted(x):
    """A model of rows as `fit` makes one, before anything is learned, and their own scores."""
    data = tiltflow.load_data(x)
    grid = data.grid
    units = fit_units("standardise", data.values, integers=False, grid=grid)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    model = TiltedModel(flow, MLPTilt(2, width=4, depth=1, key=jr.key(1)))
    log_z = LogZ(0.0, 0.0, 0.0, 0.0, "exact", 1.0, holds=True)
    fitted = FittedModel(model, None, log_z, data.integers, 0.5, 4, grid=grid)
    rows = Rows(data.values, units, integers=False, steps=None if grid is None else grid.step)
    return fitted, score(model, rows, jr.key(2)).of_rows()[0]


def test_the_unit_of_a_grid_changes_no_likelihood(table):
    """The same counts, whole and over 255, beside a continuous column, however they are scored."""
    (whole, log_q), (small, of_small) = untilted(table), untilted(table / IN_255THS)
    assert small.grid is not None
    np.testing.assert_allclose(of_small.mean(), log_q.mean(), atol=0.02)
    np.testing.assert_allclose(small.log_prob(table / IN_255THS).mean(), log_q.mean(), atol=0.03)
    np.testing.assert_allclose(whole.log_prob(table).mean(), log_q.mean(), atol=0.03)
    # Power: as a continuous density the same rows look better by the log of the step.
    without = replace(small, grid=None).log_prob(table / IN_255THS).mean()
    assert without - log_q.mean() > 0.9 * np.log(255)


def test_rows_that_are_on_no_cell_are_refused_and_draws_are_on_the_grid(table):
    small, _ = untilted(table / IN_255THS)
    with pytest.raises(tiltflow.InputError, match=r"row 0 holds 0\.001 at column 0; expected a"):
        small.log_prob([[0.001, 1.0]])
    x, _ = small.sample(chains=4, draws=20, warmup=10)
    counts = x[..., 0] * 255
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)
    plain, _ = small.to_plain()
    assert Grid.from_dict(plain["grid"], (2,)).log_cell == pytest.approx(-np.log(255), rel=1e-4)


def test_a_histogram_has_a_bin_for_each_cell(table):
    x = (table / [255.0, 1.0]).astype(np.float32)
    grid = grid_of(x)
    units = fit_units("histogram", x, integers=False, grid=grid)
    edges = np.asarray(units.edges[0])
    for value in np.unique(x[:, 0]):
        assert np.min(np.abs(edges - value)) < 1e-5
    rows = Rows(x, units, integers=False, steps=grid.step)
    assert rows.vary
