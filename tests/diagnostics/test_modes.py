"""Travel on chains of labels whose transition matrix is known, and on chains that are stuck."""

import json

import numpy as np
import pytest

from tiltflow.diagnostics.modes import travel

MATRIX = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.2, 0.8]])
SHARE = np.array([4, 8, 2]) / 14  # its stationary distribution
CHAINS, DRAWS = 16, 4_000


def markov(matrix, start):
    """Labels `[CHAINS, DRAWS]`."""
    rng = np.random.default_rng(0)
    labels = np.zeros((CHAINS, DRAWS), int)
    labels[:, 0] = start
    edges = np.cumsum(matrix, axis=1)
    for t in range(1, DRAWS):
        labels[:, t] = (rng.random(CHAINS)[:, None] > edges[labels[:, t - 1]]).sum(axis=1)
    return labels


def check_mixed(found):
    assert found.rhat < 1.05
    assert found.visited_all == 1.0
    assert found.apart < 0.2


def test_known_transition_matrix():
    found = travel(markov(MATRIX, np.arange(CHAINS) % 3), 3)
    visits = CHAINS * DRAWS * SHARE
    error = np.sqrt(MATRIX * (1 - MATRIX) / visits[:, None])
    assert np.all(np.abs(found.transitions - MATRIX) <= 4 * error)
    assert np.all(found.transitions[MATRIX == 0] == 0)
    # A cycle of mode k takes 1 / (share * chance of leaving) draws; entries are nearly Poisson.
    between = 1 / (SHARE * (1 - np.diag(MATRIX)))
    relative = 1 / np.sqrt(CHAINS * DRAWS / between)
    np.testing.assert_array_less(np.abs(found.between / between - 1), 4 * relative)
    time = (1 + 0.877) / (1 - 0.877)  # about: the second eigenvalue of MATRIX is 0.877
    assert 0.6 * time < found.time < 1.4 * time
    # Shares: independent draws are CHAINS * DRAWS / time of them.
    error = np.sqrt(SHARE * (1 - SHARE) * time / (CHAINS * DRAWS))
    assert np.all(np.abs(found.share - SHARE) <= 4 * error)
    check_mixed(found)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("leaving", [0.0, 1e-4])
def test_stuck_chains_are_told(leaving):
    stuck = (1 - leaving) * np.eye(3) + leaving * MATRIX
    found = travel(markov(stuck, np.arange(CHAINS) % 3), 3)
    with pytest.raises(AssertionError):
        check_mixed(found)
    assert found.rhat > 1.2
    assert found.apart > 0.9
    assert found.visited_all < 0.5
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_mode_of_the_data_that_no_chain_found():
    labels = markov(MATRIX[:2, :2] + [[0, 0], [0, 0.05]], 0)
    assert travel(labels, 3).visited_all == 1.0
    assert travel(labels, 3, expected=[0.5, 0.499, 0.001]).visited_all == 1.0  # it is rare
    found = travel(labels, 3, expected=[0.4, 0.4, 0.2])
    assert found.visited_all == 0.0
    assert np.isinf(found.between[2])
    assert np.isnan(found.transitions[2]).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_many_modes_of_which_every_one_is_rare():
    """Chains that never leave their mode are stuck, however small the modes."""
    stuck = np.repeat(np.arange(200)[:, None], 30, axis=1)
    found = travel(stuck, 200)
    assert found.visited_all == 0.0
    assert found.rhat > 1.2


def test_one_mode():
    found = travel(np.zeros((4, 20), int), 1)
    assert (found.rhat, found.apart, found.visited_all) == (1.0, 0.0, 1.0)
