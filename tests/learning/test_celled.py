"""Labels and values in cells: a flow that knows of the cells comes near a truth that is known."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

from tiltflow.backbones import CelledFlow, fit_units
from tiltflow.data.grids import Grid
from tiltflow.learning import Rows
from tiltflow.learning.early_stopping import silent
from tiltflow.learning.fit_backbone import fit_density
from tiltflow.learning.fit_members import (
    MemberSettings,
    begin_celled,
    begin_flow,
    cells_of_rows,
    fit_base,
    fit_mixtures,
)

SETTINGS = MemberSettings(
    mixtures=1, width=32, depth=1, steps=2_000, batch=64, rate=5e-3, decay=0.01
)
ORDER, CUTS, STEP = np.array([3, 0, 4, 1, 2]), np.array([-1.0, -0.3, 0.3, 1.0]), 0.2
GRID = Grid(np.array([1.0, STEP, 0.0], np.float32), np.zeros(3, np.float32))
NOISE = 0.3


def drawn(rows, seed):
    """A label in an order that says nothing and a rounded number, both of the last column.

    And the log of mass times density of each row.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    label, rounded = (x + NOISE * rng.normal(size=rows) for _ in range(2))
    place, value = np.searchsorted(CUTS, label), STEP * np.floor(rounded / STEP)
    ends = np.concatenate([[-np.inf], CUTS, [np.inf]])
    mass = [
        norm.cdf((high - x) / NOISE) - norm.cdf((low - x) / NOISE)
        for low, high in ((ends[place], ends[place + 1]), (value, value + STEP))
    ]
    truth = norm.logpdf(x) + np.log(mass[0]) + np.log(mass[1])
    return np.stack([ORDER[place], value, x], axis=1).astype(np.float32), truth


@pytest.fixture(scope="module")
def sets():
    values = [drawn(rows, seed)[0] for rows, seed in ((1_500, 0), (500, 1), (1_000, 2))]
    units = fit_units("histogram", values[0], integers=False, grid=GRID)
    return [Rows(x, units, integers=False, steps=GRID.step) for x in values]


def behind(flow, rows):
    """By how many nats a row `flow` is behind the truth on the last of the rows."""
    train, val, test = rows
    how = {"key": jr.key(5), "listen": silent, "keeper": None, "stage": "member 0"}
    learned = fit_density(flow, train, val, SETTINGS.descent, **how).best
    filled = test.embedded(jr.key(6), 1)
    found = filled.mean(lambda y, log_det: learned.log_prob(y) + log_det)
    return drawn(1_000, 2)[1].mean() - float(found)


def test_labels_and_rounded_numbers_are_learned_by_their_shares(sets):
    cells = cells_of_rows(sets[0])
    assert cells is not None
    assert (list(cells.of_few), list(cells.of_many)) == ([0], [1])
    base = fit_base(*sets[:2], cells, key=jr.key(0))
    assert base.means.shape[1] == 1
    flow = begin_celled(base, cells, SETTINGS, key=jr.key(1))
    assert isinstance(flow, CelledFlow)
    found = behind(flow, sets)
    assert found < 0.1
    # The twin: one that takes their coordinates for continuous is farther behind.
    whole = fit_mixtures(*sets[:2], SETTINGS, key=jr.key(0))[0].result()
    assert behind(begin_flow(whole, SETTINGS, key=jr.key(1)), sets) > found + 0.04


def test_columns_of_very_many_cells_or_of_none_have_no_shares():
    x = np.stack([np.arange(1_100) % 550, np.random.default_rng(0).normal(size=1_100)], axis=1)
    grid = Grid(np.array([1.0, 0.0], np.float32), np.zeros(2, np.float32))
    x = x.astype(np.float32)
    units = fit_units("histogram", x, integers=False, grid=grid)
    assert cells_of_rows(Rows(x, units, integers=False, steps=grid.step)) is None
    assert cells_of_rows(Rows(x[:, 1:], integers=False)) is None


def test_a_table_of_nothing_but_cells_has_a_base_of_nothing(sets):
    rows = []
    for some in sets[:2]:
        x = some.array()[:, :2]
        grid = Grid(GRID.step[:2], GRID.origin[:2])
        units = fit_units("histogram", x, integers=False, grid=grid)
        rows.append(Rows(x, units, integers=False, steps=grid.step))
    cells = cells_of_rows(rows[0])
    assert cells is not None
    flow = begin_celled(fit_base(*rows, cells, key=jr.key(0)), cells, SETTINGS, key=jr.key(1))

    @eqx.filter_jit
    def drawn_and_scored(flow):
        y = flow.draws(jr.key(2), 100)
        return y, jax.vmap(flow.log_prob)(y)

    y, found = drawn_and_scored(flow)
    expected = norm.logpdf(np.asarray(y)).sum(axis=1)  # before it is learned
    np.testing.assert_allclose(found, expected, atol=1e-4)
