"""Gaussian mixtures by maximum a posteriori: they find what there is, and no more."""

import numpy as np
import pytest
from scipy import stats

from tiltflow.learning.gaussian_mixture import best_mixture, fit_map


def three(rows, seed):
    """Three components in the plane, on scales that differ by a thousand, and their density."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    x = centres[rng.integers(3, size=rows)] + rng.normal(size=(rows, 2))
    parts = [stats.multivariate_normal(c).pdf(x) / 3 for c in centres]
    scales = np.array([1e-2, 10.0])
    return x * scales, np.log(np.sum(parts, axis=0)) - np.log(scales).sum()


def test_it_comes_near_the_truth():
    x, held_out, (out, truth) = three(3_000, 0)[0], three(1_000, 1)[0], three(4_000, 2)
    mixture, told, _ = best_mixture(x, held_out)
    short = truth - mixture.log_prob(out)
    error = short.std() / np.sqrt(len(out))
    assert -4 * error < short.mean() < 0.05
    assert told == pytest.approx(mixture.log_prob(held_out).mean(), abs=1e-4)
    one = best_mixture(x, held_out, sizes=()).mixture  # power: one component is not enough
    assert len(one.means) == 1
    assert np.mean(truth - one.log_prob(out)) > 0.3


def test_it_is_a_density():
    x, held_out = three(1_000, 0)[0], three(300, 1)[0]
    mixture, *_ = best_mixture(x, held_out, sizes=(4,))
    edges = [np.linspace(-12, 18, 601) * scale for scale in (1e-2, 10.0)]
    grid = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = (edges[0][1] - edges[0][0]) * (edges[1][1] - edges[1][0])
    assert np.exp(mixture.log_prob(grid)).sum() * cell == pytest.approx(1, abs=2e-3)


def test_normal_rows_have_one_component_and_repeated_values_do_not_collapse():
    rng = np.random.default_rng(0)
    x, held_out = rng.normal(size=(600, 5)), rng.normal(size=(300, 5))
    assert len(best_mixture(x, held_out)[0].means) == 1
    x[:300, 0], held_out[:150, 0] = 0, 0
    mixture, *_ = best_mixture(x, held_out)
    assert len(mixture.means) > 1
    assert np.all(np.isfinite(mixture.log_prob(held_out)))


def test_the_prior_holds_components_of_few_rows():
    """Without it 20 components of 100 rows are spikes: held-out rows see it at once."""
    rng = np.random.default_rng(0)
    x, held_out = rng.normal(size=(100, 6)), rng.normal(size=(500, 6))
    told = {nu: fit_map(x, held_out, 20, (nu, 1.0), rng)[1] for nu in (1.0, 0.01)}
    assert told[1.0] > told[0.01] + 1
