"""The score of outliers: p-values that keep their rate, reasons that are right, the better half."""

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.evaluation.outliers import baselines, judged, of_logits, outlier_score
from tiltflow.evaluation.outliers import score as module
from tiltflow.evaluation.outliers.judge import measures


def ordinary(number, seed):
    """Five columns that go together, two of them of few values."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(number, 3))
    few = np.column_stack([rng.integers(0, 4, number), u[:, 0] > 0])
    return np.column_stack([u[:, 0], u[:, 0] + 0.3 * u[:, 1], np.exp(u[:, 2]), few]) * 10 - 4


def strange(number, seed):
    """Outliers close together."""
    rng = np.random.default_rng(seed)
    return ordinary(number, seed) + np.array([25.0, -25.0, 0, 0, 0]) + rng.normal(size=(number, 5))


@pytest.fixture(scope="module")
def clean():
    return outlier_score(ordinary(600, 0), contaminated=False)


def test_new_ordinary_rows_have_small_p_values_as_often_as_they_say(clean):
    """Within 4 errors of 600 training and 2,000 new rows, and not by chance: 0.2 would be seen."""
    p = clean.p_values(clean.score(ordinary(2_000, 1)))
    assert clean.p_values(np.array([1e3, -1e3])).tolist() == [1 / 601, 1.0]
    for alpha in (0.05, 0.1, 0.5):
        error = np.sqrt(alpha * (1 - alpha) * (1 / 600 + 1 / 2_000))
        assert abs(np.mean(p <= alpha) - alpha) < 4 * error


def test_scores_of_rows_that_were_learned_from_would_break_the_rate(clean):
    """The power twin: p-values by densities that have seen the training rows."""
    seen = np.sort(clean.score(ordinary(600, 0)))
    new = clean.score(ordinary(2_000, 1))
    p = (1 + 600 - np.searchsorted(seen, new)) / 601
    error = np.sqrt(0.05 * 0.95 * (1 / 600 + 1 / 2_000))
    assert np.mean(p <= 0.05) > 0.05 + 4 * error


def test_where_outliers_are_in_training_rates_are_kept_from_above():
    x = np.concatenate([ordinary(540, 0), strange(60, 2)])
    score = outlier_score(x)
    assert np.mean(score.p_values(score.score(ordinary(2_000, 1))) <= 0.1) < 0.1 + 4 * 0.014


def test_the_ordinary_half_finds_outliers_that_lie_together():
    """The twin learns from all rows, the outliers among them."""
    x = np.concatenate([ordinary(520, 0), strange(80, 2)])
    new = np.concatenate([ordinary(300, 1), strange(50, 3)])
    labels = np.arange(350) >= 300
    found = {
        half: measures(outlier_score(x, contaminated=half).score(new), labels)
        for half in (True, False)
    }
    assert found[True]["auroc"] > 0.99
    assert found[True]["average_precision"] > found[False]["average_precision"] + 0.1


def test_a_changed_value_is_named(clean):
    """One column made extreme, in rows that are ordinary otherwise."""
    x = ordinary(100, 5)
    for j in (0, 1):
        changed = x.copy()
        changed[:, j] = x[:, j].mean() + 60.0
        assert np.mean(np.argmax(clean.contributions(changed), axis=1) == j) > 0.9
    unchanged = np.argmax(clean.contributions(x), axis=1)
    assert np.mean(unchanged == 0) < 0.6  # power: no column is named whatever the row


def test_values_that_do_not_fit_together_are_strange(clean):
    """Each of them is usual: a product of columns alone does not see it."""
    x = np.array([[16.0, -24.0, 6.0, 6.0, 6.0], [16.0, 16.0, 6.0, 6.0, 6.0]])
    score = clean.score(x)
    assert score[0] > score[1] + 4
    one = clean.parts["columns"]
    z = (x - clean.mean) / clean.sd
    assert np.ptp(one.of(one.part.energy(z))) < 2


def test_constant_columns_are_not_looked_at(clean):
    x = ordinary(600, 0)
    wide = np.column_stack([x[:, 0], np.full(600, 7.0), x[:, 1:]])
    score = outlier_score(wide, contaminated=False)
    new = ordinary(50, 1)
    other = np.column_stack([new[:, 0], np.arange(50.0), new[:, 1:]])
    np.testing.assert_allclose(score.score(other), clean.score(new))
    assert np.all(score.contributions(other)[:, 1] == 0)


def test_units_do_not_matter(clean):
    scale = np.array([1e-3, 1e4, 1.0, 7.0, 0.1])
    score = outlier_score(ordinary(600, 0) * scale + 5, contaminated=False)
    new = ordinary(50, 1)
    np.testing.assert_allclose(score.score(new * scale + 5), clean.score(new), rtol=1e-4)


def test_many_rows_are_learned_from_some_of_them(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 500)
    monkeypatch.setattr(module, "MOST_CENTRES", 200)
    score = outlier_score(ordinary(3_000, 0), contaminated=False)
    assert len(score.training) == 500
    assert len(score.parts["blurred"].part.centres) == 200
    p = score.p_values(score.score(ordinary(2_000, 1)))
    assert abs(np.mean(p <= 0.1) - 0.1) < 4 * np.sqrt(0.09 * (1 / 500 + 1 / 2_000))


def test_the_threshold_flags_its_share_of_the_training_rows(clean):
    for rate in (0.01, 0.1, 0.5):
        assert np.sum(clean.training > clean.threshold(rate)) == round(600 * rate)
    assert np.sum(clean.training > clean.threshold(1e-4)) == 0


@pytest.mark.parametrize(
    ("x", "settings", "words"),
    [
        (np.zeros((10, 2)), {}, "constant"),
        (np.eye(4), {}, "4 rows; expected at least 5"),
        (np.full((10, 2), np.nan), {}, "row 0 has a value"),
        (ordinary(10, 0), {"noise": 0.0}, "noise is 0.0"),
    ],
)
def test_mistakes_are_told(x, settings, words):
    with pytest.raises(InputError, match=words):
        outlier_score(x, **settings)


def test_rows_of_other_columns_are_refused(clean):
    with pytest.raises(InputError, match="3 columns; expected 5"):
        clean.score(np.zeros((2, 3)))


def test_baselines_find_what_is_far(clean):
    """And scores that know nothing do not."""
    x, labels = np.concatenate([ordinary(200, 1), strange(40, 3)]), np.arange(240) >= 200
    train, z = ((rows - clean.mean) / clean.sd for rows in (ordinary(600, 0), x))
    scores = {name: of(train, z, 0) for name, of in baselines().items()}
    assert {"neighbours", "mahalanobis", "mixture", "isolation forest"} <= set(scores)
    found = judged(scores, labels, draws=20)
    assert all(one.auroc.value > 0.95 for one in found.values())
    nothing = {name: np.random.default_rng(0).permutation(s) for name, s in scores.items()}
    assert all(one.auroc.value < 0.7 for one in judged(nothing, labels, draws=20).values())


def test_scores_of_a_classifier_are_those_of_their_papers():
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    found = of_logits(logits)
    share = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    np.testing.assert_allclose(found["max softmax"], -share)
    np.testing.assert_allclose(found["energy"], -np.log(np.exp(logits).sum(axis=1)))
