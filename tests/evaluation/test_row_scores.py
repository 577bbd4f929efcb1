"""Scores of rows: the same alone and among others, right, and no number for what cannot be."""

from functools import cache

import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import fit_units
from tiltflow.data.batches import Batch
from tiltflow.data.grids import grid_of
from tiltflow.errors import InputError
from tiltflow.evaluation.row_scores import REASONS, RowScorer, hypercube, meaning
from tiltflow.evaluation.scored_table import Seen, held_out_scores, scored, tail_of
from tiltflow.model.fitted import FittedModel
from tiltflow.model.specs import specify
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ

LOG_Z = LogZ(0.25, 0.01, 0.23, 0.27, "bridge", 900.0, 800.0, holds=True, words="Fine.")
KINDS = ("continuous", "grid", "integers")


@cache
def fitted(kind):
    """A model of three columns that was not learned, and rows of its kind."""
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    if kind == "integers":
        x = np.rint(3 * x)
    elif kind == "grid":
        x[:, 1] = np.float32(0.5) * np.rint(2 * x[:, 1])
    grid = grid_of(x) if kind == "grid" else None
    units = fit_units("auto", x, integers=kind == "integers", grid=grid)
    spec = specify(units, blocks=1, flow_width=8, tilt_width=8)
    model = TiltedModel(spec.flow(units, key=jr.key(1)), spec.tilt(key=jr.key(2)))
    return FittedModel(model, spec, LOG_Z, kind == "integers", 0.5, 4, grid=grid), x


def numbers(scores):
    return np.stack([scores.log_q, scores.f])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_scores_alone_among_others_and_in_any_order(kind):
    model, x = fitted(kind)
    scorer = RowScorer(model)
    scorer.room = 128  # so that rows fall into several parts
    whole = numbers(scorer(x))
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(numbers(scorer(x[::-1]))[:, ::-1], whole)
    for row in (0, 127, 128, 299):
        np.testing.assert_array_equal(numbers(scorer(x[row : row + 1]))[:, 0], whole[:, row])
    np.testing.assert_array_equal(numbers(scorer(x[7:40])), whole[:, 7:40])


def test_noise_that_depends_on_a_rows_place_would_be_seen():
    """Power: `log_prob`, whose rows get noise of their own, where it matters."""
    for kind, same in (("continuous", True), ("grid", False)):
        model, x = fitted(kind)
        assert np.array_equal(model.log_prob(x[::-1])[::-1], model.log_prob(x)) == same


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_model(kind):
    """Exactly, or within four standard errors of many fresh draws of the noise."""
    model, x = fitted(kind)
    scores = RowScorer(model, draws=64)(x[:40])
    draws = np.stack([model.log_prob(x[:40], seed=seed, draws=20) for seed in range(20)])
    error = 4 * draws.std(axis=0, ddof=1) / np.sqrt(len(draws)) + 2e-5
    assert np.all(np.abs(scores.log_p - LOG_Z.mean - draws.mean(axis=0)) < 2 * error)
    if kind == "grid":  # power: densities in place of masses of cells
        assert np.all(np.abs(scores.log_q - model.grid.log_cell - scores.log_q) > 0.5)
    log_q = np.stack([model.backbone_log_prob(x[:40], seed=s, draws=20) for s in range(20)])
    np.testing.assert_allclose(scores.log_q, log_q.mean(axis=0), atol=0.1)


def test_points_of_cells_are_a_latin_hypercube():
    points = hypercube(8, (3, 2), seed=1)
    strips = np.sort(np.floor(8 * points).astype(int), axis=0)
    assert (strips == np.arange(8)[:, None, None]).all()
    assert points.min() > 0
    assert points.max() < 1


def test_what_is_no_row_of_the_model_has_probability_0():
    for kind, value, reason in (
        ("continuous", np.nan, 1),
        ("continuous", -np.inf, 1),
        ("continuous", 1e39, 2),
        ("continuous", 3e38, 4),
        ("grid", 0.25, 3),
        ("integers", 0.5, 3),
        ("integers", np.nan, 1),
    ):
        model, x = fitted(kind)
        rows = x[:5].astype(float)
        rows[3, 1] = value
        scores = RowScorer(model)(rows)
        assert scores.why.tolist() == [0, 0, 0, reason, 0], (kind, value)
        assert (scores.log_p[3], scores.log_q[3]) == (-np.inf, -np.inf)
        assert np.isnan(scores.f[3])
        if reason < len(REASONS):
            assert scores.where[3] == 1
        others = [0, 1, 2, 4]
        np.testing.assert_array_equal(scores.log_p[others], RowScorer(model)(x[:5]).log_p[others])


def test_tails_count_held_out_rows_as_low_and_the_row_itself():
    held_out = np.sort([-3.0, -1.0, -1.0, 0.0])
    told = tail_of(np.array([-np.inf, -3.0, -2.0, -1.0, 5.0]), held_out)
    np.testing.assert_allclose(told, np.array([1, 2, 2, 4, 5]) / 5)


def test_tails_of_rows_like_the_held_out_ones_keep_their_rate():
    """And twice too small they would not: the power twin."""
    rng = np.random.default_rng(0)
    tails = [tail_of(rng.normal(size=1), np.sort(rng.normal(size=19)))[0] for _ in range(2_000)]
    rate, error = np.mean(np.array(tails) <= 0.1), np.sqrt(0.1 * 0.9 / 2_000)
    assert abs(rate - 0.1) < 4 * error
    assert abs(np.mean(np.array(tails) / 2 <= 0.1) - 0.1) > 10 * error


def test_batches_become_a_table_and_what_was_seen_is_told():
    model, x = fitted("grid")
    rows = x[:10].astype(float)
    rows[6, 1], rows[8, 0] = 0.3, np.nan
    scorer, seen = RowScorer(model), Seen()
    held_out = held_out_scores(scorer, x[100:])
    batches = [Batch(0, rows[:4], None), Batch(4, rows[4:], None)]
    how = {"log_z": 0.25, "held_out": held_out, "names": ("a", "b", "c"), "shape": (3,)}
    first, second = scored(scorer, batches, seen, **how)
    assert list(second) == ["row", "log_p", "log_q", "f", "tail", "outlier"]
    assert second["row"].tolist() == [4, 5, 6, 7, 8, 9]
    assert second["outlier"].tolist() == [0, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(first["log_p"], first["log_q"] + first["f"] - 0.25, atol=1e-5)
    assert (seen.rows, seen.outliers) == (10, 2)
    assert seen.first == {
        REASONS[0]: "row 8, column 'a': nan",
        REASONS[2]: "row 6, column 'b': 0.3",
    }
    known = np.concatenate([first["log_p"], second["log_p"][second["outlier"] == 0]])
    assert seen.mean == pytest.approx(known.mean(), abs=1e-5)
    (withheld,) = scored(scorer, batches[:1], Seen(), **how | {"log_z": None, "held_out": None})
    assert np.isnan(withheld["log_p"]).all()
    assert np.isnan(withheld["tail"]).all()
    with pytest.raises(InputError, match=r"rows of shape \(2,\); expected \(3,\)"):
        list(scored(scorer, [Batch(0, rows[:, :2], None)], Seen(), **how))


def test_what_log_p_means_is_said():
    assert [meaning(fitted(kind)[0]) for kind in KINDS] == [
        "density, in the units of the data",
        "mass of its cells on the grid, times the density of its other columns, a bound from below",
        "mass of its integers, a bound from below",
    ]
