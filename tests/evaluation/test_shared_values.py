"""Atoms among continuous values are a reason for caution, in tables and images."""

import numpy as np
import pytest

import tiltflow
from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.backbones.units.scale import identity
from tiltflow.evaluation import trust
from tiltflow.evaluation.shared_values import no_atoms
from tiltflow.learning import Rows

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(800, 3))
TRAIN = np.arange(600)


def test_zeros_and_caps_are_named_with_their_share():
    x = X.copy()
    x[CHANCE.random(800) < 0.3, 1] = 0.0
    x[:, 2] = np.minimum(x[:, 2], 1.5)
    check = no_atoms(tiltflow.load_data(x), TRAIN)
    assert (check.ok, check.part, check.severity) == (False, "data", "caution")
    assert check.value == pytest.approx(np.mean(x[:600, 1] == 0))
    assert f"Column 1 is 0 in {check.value:.0%} of the rows; column 2 is 1.5 in" in check.means
    assert "--atoms separate" in check.try_
    # Power: the same rows without atoms, with atoms set apart, and on a grid.
    for sound in (X, np.round(x, 1)):
        assert no_atoms(tiltflow.load_data(sound), TRAIN).ok
    assert no_atoms(tiltflow.load_data(x, atoms="separate"), TRAIN).ok


def test_pixels_are_looked_at_too():
    images = X[:, :2, None].repeat(2, axis=2) + CHANCE.normal(size=(800, 2, 2))
    assert no_atoms(tiltflow.load_data(images), TRAIN).ok
    images[::4, 1, 0] = 0.5
    check = no_atoms(tiltflow.load_data(images), TRAIN)
    assert not check.ok
    assert "Entry (1, 0) is 0.5 in 25% of the rows" in check.means


def test_rows_of_nothing_but_atoms_repeat_as_they_like():
    """With its power: the same rows, where atoms are values as others, are copies."""
    x = np.where(CHANCE.random((800, 2)) < 0.5, 0.0, X[:, :2])
    grid = tiltflow.load_data(x, atoms="separate").grid
    assert grid is not None
    cells, units, how = grid.to_cells(x), identity((2,)), {"integers": False, "steps": grid.step}
    for atoms in (atom_cells(grid), None):
        parts = {"train": cells[:600], "test": cells[600:]}
        rows = {name: Rows(part, units, atoms=atoms, **how) for name, part in parts.items()}
        (check,) = trust._copied(rows)
        assert check.ok == (atoms is not None)
