"""The densities of the score of outliers against closed forms, and where they would fail."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from tiltflow.evaluation.outliers.blurred import as_neighbours_are, with_noise
from tiltflow.evaluation.outliers.columns import Columns
from tiltflow.evaluation.outliers.distances import parts, squared_distances
from tiltflow.evaluation.outliers.learned import learned
from tiltflow.evaluation.outliers.ordinary import ordinary_half
from tiltflow.learning.noised_mixture import components, noised_mixture


def rows(number=60, columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(number, columns))


def test_distances_are_those_of_pairs_whatever_is_in_memory(monkeypatch):
    a, b = rows(), rows(40, seed=1)
    each = ((a[:, None] - b) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(a, b), each, atol=1e-12)
    monkeypatch.setattr("tiltflow.evaluation.outliers.distances.AT_ONCE", 100)
    whole = np.concatenate([squared_distances(a[some], b) for some in parts(60, 40)])
    np.testing.assert_allclose(whole, each, atol=1e-12)
    assert len(list(parts(60, 40))) == 30


def by_hand(z, centres, widths):
    return np.array(
        [
            -np.log(
                np.mean(
                    [
                        multivariate_normal(c, w**2 * np.eye(len(c))).pdf(x)
                        for c, w in zip(centres, widths, strict=True)
                    ]
                )
            )
            for x in z
        ]
    )


@pytest.mark.parametrize("make", [lambda c: with_noise(c, 0.7), as_neighbours_are])
def test_blurred_rows_have_the_mean_of_normal_densities(make):
    """And each centre by the others: without leaving it out it would be more probable."""
    centres, z = rows(30), rows(5, seed=1)
    density = make(centres)
    np.testing.assert_allclose(density.energy(z), by_hand(z, centres, density.widths), rtol=1e-9)
    for i in (0, 7):
        others = np.delete(np.arange(30), i)
        alone = by_hand(centres[i : i + 1], centres[others], density.widths[others])
        np.testing.assert_allclose(density.energy_held_out()[i], alone[0], rtol=1e-9)
    assert np.all(density.energy_held_out() > density.energy(centres))


def test_widths_follow_the_tenth_neighbour_but_never_vanish():
    centres = rows(50)
    away = np.sqrt(np.sort(((centres[:, None] - centres) ** 2).sum(axis=2), axis=1)[:, 10])
    np.testing.assert_allclose(as_neighbours_are(centres).widths, away / (2 * np.sqrt(3)))
    same = np.zeros((20, 3))
    np.testing.assert_allclose(as_neighbours_are(same).widths, 0.01 / (2 * np.sqrt(3)))


@pytest.mark.parametrize(
    "density",
    [with_noise(rows(), 0.3), as_neighbours_are(rows()), learned(rows(90), 0.2, 0)],
    ids=["blurred", "neighbours", "learned"],
)
def test_what_columns_add_grows_with_the_column_that_is_changed(density):
    z = rows(20, seed=2)
    far = z.copy()
    far[:, 1] += 6.0
    before, after = density.by_column(z), density.by_column(far)
    assert np.all(np.argmax(after - before, axis=1) == 1)
    # Far out one component has all, and what columns add is the energy but for a constant.
    rise = density.energy(far + np.array([0, 20, 0])) - density.energy(far + np.array([0, 19, 0]))
    told = density.by_column(far + np.array([0, 20, 0])) - density.by_column(
        far + np.array([0, 19, 0])
    )
    np.testing.assert_allclose(told.sum(axis=1), rise, rtol=0.05)


def test_a_product_of_columns_has_the_densities_of_its_columns():
    rng = np.random.default_rng(0)
    z = np.column_stack([rng.normal(size=20_000), rng.integers(0, 3, 20_000)])
    x = np.array([[0.0, 0.0], [1.0, 1.0], [-2.0, 2.0]])
    truth = -norm.logpdf(x[:, 0])
    by_column = Columns.fit(z).by_column(x)
    # Blurred by 0.11 a normal density has 0.6% less at its top; 20,000 rows tell 5% of it.
    np.testing.assert_allclose(by_column[:, 0], truth, atol=0.1)
    np.testing.assert_allclose(by_column[:, 1], np.log(3), atol=0.05)
    assert np.allclose(Columns.fit(z).energy(x), by_column.sum(axis=1))


def test_values_that_no_row_has_are_rare_and_rarer_the_farther():
    rng = np.random.default_rng(0)
    z = np.column_stack([rng.normal(size=999), rng.integers(0, 3, 999)])
    columns = Columns.fit(z)
    far = columns.by_column(np.array([[20.0, 7.0], [30.0, 0.5], [40.0, -1.0]]))
    np.testing.assert_allclose(np.diff(far[:, 0]), 10.0)
    np.testing.assert_allclose(far[:, 1], -np.log(0.5 / 1000))


def test_the_ordinary_half_leaves_outliers_out_and_all_rows_would_not():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(140, 4)), rng.normal(size=(60, 4)) * 0.1 + 8])
    kept = ordinary_half(z, rng)
    assert len(kept) == 100
    assert np.all(np.diff(kept) > 0)
    # 60 rows close together are nearer to a tenth of the rows than any other: a coarse distance
    # of a tenth does not see clusters of more than that, and says so here.
    assert np.sum(kept >= 140) == 60
    few = np.concatenate([z[:140], z[140:150]])
    assert np.sum(ordinary_half(few, rng) >= 140) == 0


def test_the_ordinary_half_is_much_the_same_by_some_of_the_rows(monkeypatch):
    z = rows(400) ** 3
    whole = ordinary_half(z, np.random.default_rng(0))
    monkeypatch.setattr("tiltflow.evaluation.outliers.ordinary.MOST_COMPARED", 200)
    some = ordinary_half(z, np.random.default_rng(0))
    assert 185 < len(np.intersect1d(whole, some)) <= 200


def test_a_noised_mixture_is_the_density_of_rows_plus_noise():
    """In closed form for one component; what repeats is paid for no more than the noise."""
    z = rows(25)
    z[:, 2] = z[:, 0]
    assert components(*z.shape) == 1
    mixture = noised_mixture(z, 0.2)
    covariance = np.cov(z.T, bias=True) + 0.04 * np.eye(3)
    truth = multivariate_normal(z.mean(axis=0), covariance).logpdf(z)
    np.testing.assert_allclose(mixture.log_prob(z), truth, rtol=1e-6)
    # The twin: next to no noise pays 5 nats more for a direction that is not there.
    assert noised_mixture(z, 1e-3).log_prob(z).mean() > mixture.log_prob(z).mean() + 4


def test_a_noised_mixture_finds_two_clusters():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 2)) * 0.1 + np.where(rng.random(600) < 0.5, 2.0, -2.0)[:, None]
    found = noised_mixture(z, 0.2).log_prob(np.array([[2.0, 2.0], [0.0, 0.0]]))
    top = multivariate_normal([0, 0], 0.05 * np.eye(2)).logpdf([0, 0]) + np.log(0.5)
    assert abs(found[0] - top) < 0.2
    assert found[1] < found[0] - 10


def test_rows_that_were_learned_from_are_scored_by_the_mixture_without_them():
    """The twin: by all mixtures they look less strange than new rows do."""
    z, new = rows(120, 16), rows(120, 16, seed=1)
    density = learned(z, 0.05, 0)
    held_out, seen = density.energy_held_out(z), density.energy(z)
    error = np.hypot(held_out.std(), density.energy(new).std()) / np.sqrt(120)
    assert abs(held_out.mean() - density.energy(new).mean()) < 4 * error
    assert seen.mean() < density.energy(new).mean() - 4 * error
