"""Frechet distance: closed forms, another route to the root, its bias and its error."""

import numpy as np
import pytest
from correlated import autoregressive, standing
from scipy.linalg import sqrtm

from tiltflow.evaluation.quality.frechet import Moments, between, frechet, moments

DIM = 6


def covariance(seed, dim=DIM, rank=None):
    half = np.random.default_rng(seed).normal(size=(dim, rank or dim))
    return half @ half.T


def truth(shift, stretch, dim=DIM):
    """Between N(0, I) and N(shift 1, stretch^2 I)."""
    return dim * shift**2 + dim * (stretch - 1) ** 2


def drawn(seed, rows, shift=0.0, stretch=1.0, dim=DIM):
    return shift + stretch * np.random.default_rng(seed).normal(size=(rows, dim))


def test_gaussians_that_share_axes_have_a_closed_form():
    turn = np.linalg.qr(covariance(0))[0]
    s, t = np.array([1.0, 2, 3, 0.5, 1, 4]), np.array([2.0, 1, 0, 0.5, 3, 1])
    one = Moments(np.zeros(DIM), turn * s**2 @ turn.T)
    other = Moments(np.arange(DIM) / 2, turn * t**2 @ turn.T)
    expected = np.sum((np.arange(DIM) / 2) ** 2) + np.sum((s - t) ** 2)
    assert between(one, other) == pytest.approx(expected, rel=1e-7)
    assert between(other, one) == pytest.approx(expected, rel=1e-7)  # a root of rounding: 1e-8


@pytest.mark.parametrize("seed", range(3))
def test_the_root_agrees_with_scipys(seed):
    one = Moments(np.zeros(DIM), covariance(seed))
    other = Moments(np.ones(DIM), covariance(seed + 10))
    root = np.real(sqrtm(one.covariance @ other.covariance))
    expected = DIM + np.trace(one.covariance + other.covariance - 2 * root)
    assert between(one, other) == pytest.approx(expected, rel=1e-10)


def test_covariances_without_an_inverse_do_no_harm():
    flat = Moments(np.zeros(64), covariance(0, 64, rank=3))
    assert between(flat, flat) == pytest.approx(0.0, abs=1e-5 * np.trace(flat.covariance))
    constant = moments(np.ones((10, 64)))
    assert between(constant, constant) == 0.0


def repeated(rows=160, repeats=60):
    """The distance from as many independent pairs of sets, dim 6, no difference in truth."""
    return [
        frechet(
            drawn(2 * i, rows), drawn(2 * i + 1, rows), rng=np.random.default_rng(i), replicates=20
        )
        for i in range(repeats)
    ]


def test_the_line_through_sizes_takes_the_bias_away_and_the_value_alone_has_it():
    found = repeated()

    def z(values):
        return np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values)))

    assert abs(z([f.extrapolated for f in found])) < 4
    assert z([f.value for f in found]) > 8  # the power twin
    sizes = [rows for rows, _ in found[0].by_size]
    assert sizes == [20, 40, 80, 160]
    assert np.all(np.diff([value for _, value in found[0].by_size]) < 0)


def test_the_bootstrap_tells_the_error():
    found = [
        frechet(
            drawn(2 * i, 400, shift=0.5, stretch=1.5),
            drawn(2 * i + 1, 400),
            rng=np.random.default_rng(i),
            replicates=50,
        )
        for i in range(60)
    ]
    spread = np.std([f.value for f in found], ddof=1)
    told = np.mean([f.standard_error for f in found])
    assert 0.7 < told / spread < 1.4  # four standard errors of a spread from 60: 0.36
    values = np.array([f.extrapolated for f in found])
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - truth(0.5, 1.5)) < 4 * error
    assert abs(values.mean() - truth(0.6, 1.5)) > 4 * error


def test_plain_values():
    block = frechet(drawn(0, 100), drawn(1, 100, shift=1.0), rng=np.random.default_rng(0)).to_dict()
    assert block["low"] < block["value"] < block["high"]
    assert block["by_size"][-1] == {"rows": 100, "value": block["value"]}


def of_chains(seed, shift=0.0, stretch=1.0, *, with_groups):
    """Samples of chains against as many independent rows."""
    x, chain = autoregressive(2 * seed, 0.9, chains=48, dim=DIM)
    y, rng = drawn(2 * seed + 1, len(x)), np.random.default_rng(seed)
    groups = chain if with_groups else None
    return frechet(shift + stretch * x, y, rng=rng, replicates=20, groups=groups)


def with_and_without(shift=0.0, stretch=1.0):
    """Of 60 sets of chains each."""
    return (
        [of_chains(i, shift, stretch, with_groups=groups) for i in range(60)]
        for groups in (True, False)
    )


def test_the_bootstrap_of_chains_tells_the_error_and_that_of_their_draws_does_not():
    found, without = with_and_without(0.5, 1.5)
    assert [f.value for f in found] == pytest.approx([f.value for f in without])
    spread = np.std([f.value for f in found], ddof=1)
    assert 0.7 < np.mean([f.standard_error for f in found]) / spread < 1.4
    assert np.mean([f.standard_error for f in without]) / spread < 0.7  # the power twin


def test_the_line_through_sizes_needs_whole_chains():
    found, without = with_and_without()
    assert abs(standing([f.extrapolated for f in found])) < 4
    assert standing([f.extrapolated for f in without]) > 8  # the power twin


def test_sizes_that_few_chains_do_not_have_are_left_out():
    x, chain = autoregressive(0, 0.0, chains=5, dim=DIM)
    found = frechet(x, drawn(1, 100), rng=np.random.default_rng(0), groups=chain)
    assert [rows for rows, _ in found.by_size] == [25, 50, 100]
    assert np.isfinite(found.extrapolated)
