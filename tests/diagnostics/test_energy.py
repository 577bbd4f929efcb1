"""E-BFMI on energies that are known, and where divergences are."""

import numpy as np
import pytest

from tiltflow.diagnostics.energy import LOWEST, divergences, e_bfmi


def walk(*, spread, chains=8, draws=4_000):
    """Energies 0.5 |u|^2 + kinetic of an AR(1) potential of standard deviation `spread`."""
    rng = np.random.default_rng(0)
    potential = np.zeros((chains, draws))
    for t in range(1, draws):
        noise = rng.normal(size=chains) * spread * np.sqrt(1 - 0.99**2)
        potential[:, t] = 0.99 * potential[:, t - 1] + noise
    return potential + rng.normal(size=(chains, draws))


def check_high_enough(energies):
    assert e_bfmi(energies).min() >= LOWEST


def test_independent_energies_have_2():
    energies = np.random.default_rng(1).normal(size=(8, 4_000))
    values = e_bfmi(energies)
    assert values.shape == (8,)
    # A ratio of 4,000 squares: its standard error is about sqrt(2 / 4000).
    np.testing.assert_allclose(values, 2.0, atol=4 * np.sqrt(2 / 4_000))


def test_a_walk_through_energies_is_told():
    check_high_enough(walk(spread=1.0))
    with pytest.raises(AssertionError):  # its potential's tails are heavy beside the momentum's
        check_high_enough(walk(spread=20.0))


def test_energies_that_do_not_change_are_not_a_number():
    energies = np.random.default_rng(2).normal(size=(3, 50))
    energies[1] = 4.0
    assert np.isnan(e_bfmi(energies)).tolist() == [False, True, False]


def test_where_divergences_are():
    divergent = np.zeros((3, 10), bool)
    divergent[1, 4] = divergent[2, [0, 7]] = True
    f = np.where(divergent, -5.0, 1.0)
    norm = np.where(divergent, 90.0, 60.0)
    found = divergences(divergent, f, norm, shown=2)
    assert (found.recorded, found.chains) == (3, 2)
    assert found.first == [(1, 4), (2, 0)]
    assert (found.f, found.f_elsewhere) == (-5.0, 1.0)
    assert "f -5" in found.words
    assert "90 (60)" in found.words
    assert divergences(np.zeros((3, 10)), f, norm).words == ""
