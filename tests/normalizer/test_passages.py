"""Particles that lag do not lean: their groups count by what they say of the ratio so far."""

from itertools import pairwise

import numpy as np
import pytest
from closed_forms import tilt

from tiltflow.normalizer.mbar import mbar
from tiltflow.normalizer.passages import pooled, weights_of_groups

TILT = tilt(24, 2.0, 1.0, 0.2)
BETAS = np.linspace(0, 1, 7)
GROUPS, PARTICLES, SEEDS = 16, 12, 50
LAG = 0.6  # of a move, towards the next rung


def passage(rng, betas):
    """f `[rungs, groups, particles]` of exact draws at the first rung that travel to the last."""

    def draws(beta, u=None):
        grown = 1 + beta * TILT.b
        fresh = rng.standard_normal((GROUPS, PARTICLES, len(grown)))
        if u is not None:
            old = (u - beta * TILT.a / grown) * grown**0.5
            fresh = LAG * old + (1 - LAG**2) ** 0.5 * fresh
        return beta * TILT.a / grown + fresh / grown**0.5

    u = draws(betas[0])
    found = [TILT.f(u)]
    for before, beta in pairwise(betas):
        weights = np.exp((beta - before) * (found[-1] - found[-1].max(axis=1, keepdims=True)))
        below = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
        points = (np.arange(PARTICLES) + rng.random((GROUPS, 1))) / PARTICLES
        chosen = np.sum(below[:, None] < points[..., None], axis=2).clip(0, PARTICLES - 1)
        u = draws(beta, np.take_along_axis(u, chosen[..., None], axis=1))
        found.append(TILT.f(u))
    return np.stack(found)


@pytest.fixture(scope="module")
def travelled():
    """Of each seed two rounds up and, in the same order of rungs, two down."""
    found = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        up = np.stack([passage(rng, BETAS) for _ in range(2)], axis=1)
        down = np.stack([passage(rng, BETAS[::-1])[::-1] for _ in range(2)], axis=1)
        found.append((up, down))
    return found


def one_way(f, order, counted):
    """log Z by those alone that climb, or descend; counted by their groups or all the same."""
    weights = np.ones(f.shape[:3])
    if counted:
        weights = weights_of_groups(BETAS[order], f[order])[order]
    flat = [np.concatenate(list(rung), axis=1) for rung in f]
    each = [np.repeat(share.T, PARTICLES, axis=1) for share in weights]
    return mbar(BETAS, flat, BETAS * TILT.log_z, weights=each)


def lean(found):
    """The mean of the errors in units of those that are told, and their scatter."""
    errors = [(one.log_z[-1] - TILT.log_z) / one.standard_error[-1] for one in found]
    return float(np.mean(errors)), float(np.std(errors))


@pytest.mark.parametrize(("way", "sign"), [("up", -1), ("down", 1)])
def test_neither_way_leans_where_groups_count_and_both_do_where_they_do_not(travelled, way, sign):
    order = slice(None, None, -sign)
    some = [pair[way == "down"] for pair in travelled]
    counted, _ = lean([one_way(f, order, True) for f in some])
    alike, _ = lean([one_way(f, order, False) for f in some])
    assert abs(counted) < 4 / SEEDS**0.5
    assert sign * alike > 6 / SEEDS**0.5  # power


def test_what_both_say_is_as_far_off_as_told(travelled):
    mean, scatter = lean([pooled(BETAS, *pair, BETAS * TILT.log_z) for pair in travelled])
    assert abs(mean) < 4 / SEEDS**0.5
    assert 0.75 < scatter < 1.35


def test_groups_count_one_on_average_and_all_the_same_where_they_start(travelled):
    weights = weights_of_groups(BETAS, travelled[0][0])
    np.testing.assert_allclose(weights.mean(axis=(1, 2)), 1.0)
    assert np.all(weights[0] == 1.0)
    assert weights[-1].std() > 0.1
