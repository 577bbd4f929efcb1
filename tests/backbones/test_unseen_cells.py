"""A value that no training row has, beyond those that some have: unlikely, and not impossible."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones import fit_units
from tiltflow.backbones.units.heavy import HeavyTailed
from tiltflow.data.grids import Grid

ROWS, STEP = 420, 1.5
AWAY = np.array([1, 2, 5, 40, 1_000])  # cells
CONSTANT = np.full((ROWS, 1), 20, np.float32)


def fitted(kind):
    """Units of values on a grid, or of integers, all of which are 20; and the step."""
    if kind == "integers":
        return fit_units("auto", CONSTANT, integers=True), 1.0
    grid = Grid(np.full(1, STEP, np.float32), np.full(1, 20, np.float32))
    return fit_units("histogram", CONSTANT, integers=False, grid=grid), STEP


def log_masses(units, step, cells):
    """Of cells so many beyond the only one that was seen: their width times density in the middle.

    Of the coordinates as N(0, 1) has it.
    """
    x = np.float32(20 + step * (np.asarray(cells)[:, None] + 0.5))
    y, log_det = jax.jit(jax.vmap(units.encode_and_log_det))(x)
    return stats.norm.logpdf(np.asarray(y, float)[:, 0]) + np.asarray(log_det) + np.log(step)


@pytest.mark.parametrize("kind", ["grid", "integers"])
def test_unseen_cells_have_a_tail(kind):
    """The twin has straight lines in its place, and says that they cannot be."""
    units, step = fitted(kind)
    told = log_masses(units, step, np.concatenate([-AWAY, AWAY]))
    assert np.all(told > -60)
    near = np.concatenate([AWAY, AWAY]) <= 2
    assert np.all(told[near] > -13)
    assert np.all(np.diff(told[len(AWAY) :]) < 0)
    assert isinstance(units, HeavyTailed)
    straight = log_masses(replace(units, shape=0 * units.shape), step, AWAY)
    assert np.all(straight < -300)


@pytest.mark.parametrize("kind", ["grid", "integers"])
def test_all_cells_together_have_the_mass_of_one(kind):
    units, step = fitted(kind)
    end = np.full((1, 1), 20 + step, np.float32)
    beyond = stats.norm.sf(np.asarray(jax.jit(jax.vmap(units.encode))(end), float)[0, 0])
    near = np.exp(log_masses(units, step, np.arange(1, 2_000)))
    assert np.sum(near) == pytest.approx(beyond, rel=0.1)
    assert 0.9e-4 < beyond < 0.01
    assert np.exp(log_masses(units, step, [0]))[0] == pytest.approx(1 - 2 * beyond, rel=0.01)


def test_draws_of_what_is_constant_are_nearly_constant():
    units, step = fitted("grid")
    y = np.random.default_rng(1).normal(size=(20_000, 1)).astype(np.float32)
    x = np.asarray(jax.jit(jax.vmap(units.decode))(y), float)[:, 0]
    assert 0.99 < np.mean((x >= 20) & (x < 20 + step)) < 1.0
    assert np.std(x) < step
