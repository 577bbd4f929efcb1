"""What is looked at comes from everywhere: first and last, every chain, every time."""

import numpy as np
import pytest

from tiltflow.evaluation.evenly import evenly, over_chains


@pytest.mark.parametrize(
    ("some", "of", "indices"), [(3, 5, [0, 2, 4]), (1, 5, [0]), (0, 0, []), (4, 2, [0, 0, 1, 1])]
)
def test_first_and_last_and_evenly_between(some, of, indices):
    np.testing.assert_array_equal(evenly(some, of), indices)


def test_draws_are_taken_from_all_chains_and_times():
    positions = np.arange(6 * 10).reshape(6, 10, 1) * np.ones(2)
    found = over_chains(positions, 12)
    assert found.shape == (12, 2)
    chain, time = np.divmod(found[:, 0], 10)
    assert set(chain) == set(range(6))
    assert time[0] == 0
    assert time[-1] == 9
    assert np.all(np.diff(time) >= 0)
    np.testing.assert_array_equal(over_chains(positions, 60)[:6, 0], positions[:, 0, 0])
