"""Parts of a density are told apart by the density between draws, and by nothing else."""

import numpy as np
import pytest
from scipy.special import logsumexp

from tiltflow.fitting.posterior import landscape
from tiltflow.fitting.posterior.landscape import merged, surveyed

MEANS = np.array([[-4.0, 0.0, 0.0], [4.0, 1.0, 0.0]])


def two_modes(y):
    """Two normal modes, .3 and .7 of the mass but for what lies broadly over both."""
    square = np.sum((y[:, None] - MEANS) ** 2, axis=2)
    broad = -0.5 * np.sum(y**2, axis=1) / 16 - 3 * np.log(4)
    each = np.column_stack([-0.5 * square + np.log([0.29, 0.69]), broad + np.log(0.02)])
    return logsumexp(each, axis=1)


def draws_of_two(rng, number=3_000):
    which = rng.choice(3, number, p=[0.29, 0.69, 0.02])
    noise = rng.standard_normal((number, 3))
    return np.where((which == 2)[:, None], 4 * noise, MEANS[np.minimum(which, 1)] + noise), which


def parts_of(rows, density, along=None):
    along = along or (lambda w: (w, density(w)))
    y, value = along(rows)
    found = surveyed(rows, y, value, np.eye(rows.shape[1]), along, np.random.default_rng(1))
    return found, found.labels(rows, y)


def shares_of_two(rows, which):
    """The shares, the smaller one first; asserts that there are two parts and who is in them."""
    found, labels = parts_of(rows, two_modes)
    assert found.parts.max() == 1
    left = np.bincount(labels[which == 0]).argmax()
    assert np.mean(labels[which == 0] == left) > 0.99
    assert np.mean(labels[which == 1] == left) < 0.01
    assert np.isin(labels, (0, 1)).all()


def test_a_light_broad_component_does_not_join_two_modes():
    """The shares are asserted in `shares_of_two`; its power twin is the next test."""
    shares_of_two(*draws_of_two(np.random.default_rng(0)))


def test_if_no_dip_were_seen_they_would_be_joined(monkeypatch):
    """The power twin."""
    monkeypatch.setattr(landscape, "DIP", 1e3)
    with pytest.raises(AssertionError):
        shares_of_two(*draws_of_two(np.random.default_rng(0)))


def test_curved_and_round_densities_are_one_part():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3_000, 2))
    bent = np.column_stack([x[:, 0], x[:, 0] ** 2 + 0.3 * x[:, 1]])

    def banana(y):
        return -0.5 * y[:, 0] ** 2 - 0.5 * ((y[:, 1] - y[:, 0] ** 2) / 0.3) ** 2

    angle = rng.uniform(0, 2 * np.pi, 3_000)
    radius = 2 + 0.15 * rng.standard_normal(3_000)
    ring = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    def around(y):
        return -0.5 * ((np.linalg.norm(y, axis=1) - 2) / 0.15) ** 2

    for rows, density in ((bent, banana), (ring, around)):
        _, labels = parts_of(rows, density)
        assert np.bincount(labels).max() / len(labels) > 0.99


def test_what_a_flow_has_squeezed_between_two_modes_is_seen(monkeypatch):
    """A gap of twelve deviations that is a hundredth wide in latent space."""

    def pushed(w):
        y = w + np.array([6.0, 0, 0]) * np.tanh(w[:, :1] / 0.01)
        log_det = np.log1p(600 / np.cosh(np.clip(w[:, 0] / 0.01, -300, 300)) ** 2)
        far = np.sum((y[:, None] - 6 * np.array([[-1.0, 0, 0], [1, 0, 0]])) ** 2, axis=2)
        return y, logsumexp(-0.5 * far, axis=1) + log_det

    w = np.random.default_rng(0).standard_normal((3_000, 3))
    found, labels = parts_of(w, lambda w: pushed(w)[1], pushed)
    assert found.parts.max() == 1
    assert np.mean((labels == labels[0]) == (w[:, 0] * w[0, 0] > 0)) > 0.9
    # Power: without more points in the longest step, some path leads across.
    low, _ = landscape.saddles(np.array([[-1.0, 0, 0], [1.1, 0, 0]]), np.array([[0, 1]]), pushed)
    monkeypatch.setattr(landscape, "FINER", 0)
    blind, _ = landscape.saddles(np.array([[-1.0, 0, 0], [1.1, 0, 0]]), np.array([[0, 1]]), pushed)
    assert low[0] < -3
    assert blind[0] > -1.5


def test_summits_are_joined_by_the_highest_path_between_them():
    height = np.array([0.0, -0.5, 0.0])
    pairs = np.array([[0, 1], [1, 2], [0, 2]])
    assert merged(height, pairs, np.array([-0.6, -5.0, -9.0])).tolist() == [0, 0, 1]
    assert merged(height, pairs, np.array([-0.6, -0.9, -9.0])).tolist() == [0, 0, 0]
    # A low summit beside two high ones is no way from one to the other.
    assert merged(np.array([0.0, -7.0, 0.0]), pairs, np.array([-7.0, -7.0, -9.0])).max() == 1
