"""The data's own end: each way in which a mean of scores means nothing is seen, and named."""

import jax.random as jr
import numpy as np
import pytest

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.evaluation.far_coordinates import within_scale
from tiltflow.evaluation.likelihood import score
from tiltflow.evaluation.trust import _carried, heaviest, trust
from tiltflow.learning import Rows
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import MLPTilt, NetworkTilt

NAMES = {
    "row": "largest row's share of the variance of the mean",
    "tail": "Pareto k-hat of -log p over rows",
    "digit": "nats that the last digit of a row moves",
    "copies": "held-out rows that are training rows, share",
    "dependent": "narrowest direction of the columns, of their deviations",
    "scale": "largest row's share of a column's spread, in the backbone's units",
}


def doubted(train, test):
    """The names of the checks that are not passed, for a model that fits the training rows."""
    units = fit_units("standardise", train, integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    model = TiltedModel(flow, MLPTilt(3, width=4, key=jr.key(1)))
    rows = {"train": Rows(train, units, False), "test": Rows(test, units, False)}
    found = trust(score(model, rows["test"], jr.key(2)), model, rows, jr.key(3))
    assert {check.part for check in found} == {"data"}
    return {check.name for check in found if not check.ok}


def normal(seed, rows=500):
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_sound_rows_raise_no_doubt(seed):
    assert doubted(normal(seed), normal(seed + 100)) == set()


def test_one_row_that_carries_the_mean():
    test = normal(1)
    test[17] = 60.0
    assert NAMES["row"] in doubted(normal(0), test)


def test_tails_that_leave_a_mean_without_variance():
    """Student's t with 2 degrees of freedom under a normal tail: -log p has no variance."""
    heavy = np.random.default_rng(2).standard_t(2, size=(4_000, 3)).astype(np.float32)
    assert NAMES["tail"] in doubted(heavy[:2_000], heavy[2_000:])


def test_a_few_rows_that_move_the_mean_by_next_to_nothing_are_no_tail():
    """Two of 200 rows just outside of what was seen, by 5 nats each; or by 100."""
    nll = np.random.default_rng(0).uniform(0.0, 0.1, 200)
    for out, ok in ((5.0, True), (100.0, False)):
        nll[:2] = out
        assert {check.ok for check in _carried(nll)} == {ok}


def test_few_rows_say_little_of_a_tail():
    """Of 60 rows with exponential scores the farthest has a third of the variance, by chance."""
    assert heaviest(60) > 1.5
    assert 0.7 < heaviest(2_000) < 0.8
    rng = np.random.default_rng(0)
    assert all(check.ok for _ in range(20) for check in _carried(rng.exponential(2.0, 60)))


def in_scale(kind, x):
    (check,) = within_scale(Rows(x, fit_units(kind, x, integers=False), False))
    assert check.part == "data"
    return check


def test_a_column_without_a_scale_in_the_units_that_it_has():
    """Cauchy's: standardised one row is most of it; behind power tails it is like any other."""
    x = normal(0, 1_400)
    assert in_scale("standardise", x).ok
    x[:, 1] = np.random.default_rng(1).standard_cauchy(1_400)
    assert in_scale("tails", x).ok
    check = in_scale("standardise", x)
    assert not check.ok
    assert check.severity == "failed"
    assert "in column 1" in check.means


def test_one_far_row_is_named_with_its_value():
    x = normal(0)
    x[17, 2] = -60.0
    check = in_scale("standardise", x)
    assert not check.ok
    assert check.severity == "caution"
    assert "row 17 of those that are learned from (-60 in column 2)" in check.means


def test_a_row_that_costs_next_to_nothing_is_no_scale():
    """Of less than a fifth of the spread: 0.1 nats a row. The twin has more."""
    for share, ok in ((0.15, True), (0.3, False)):
        x = normal(0)
        x[17, 2] = np.sqrt(share / (1 - share) * len(x))
        assert in_scale("standardise", x).ok == ok


def test_a_spread_as_narrow_as_the_spacing_of_numbers():
    """Around 10,000 the spacing in 32 bits is 0.001, and so is the spread."""
    offset = np.float32(10_000)
    train, test = normal(0), normal(1)
    train[:, 1], test[:, 1] = (offset + np.float32(1e-3) * x[:, 1] for x in (train, test))
    assert NAMES["digit"] in doubted(train, test)
    train, test = normal(0), normal(1)
    train[:, 1], test[:, 1] = (offset + x[:, 1] for x in (train, test))
    assert doubted(train, test) == set()


def test_held_out_rows_that_were_learned_from():
    train, test = normal(0), normal(1)
    test[:50] = train[100:150]
    assert doubted(train, test) == {NAMES["copies"]}
    test[2:50] = normal(5, 48)  # two of 500 may be chance
    assert doubted(train, test) == set()


def test_a_column_that_follows_from_others():
    train, test = normal(0), normal(1)
    train[:, 2], test[:, 2] = (0.3 * x[:, 0] - x[:, 1] for x in (train, test))
    assert NAMES["dependent"] in doubted(train, test)
    for x, seed in ((train, 2), (test, 3)):
        x[:, 2] += 0.01 * normal(seed)[:, 2]
    assert NAMES["dependent"] not in doubted(train, test)


def test_the_digits_of_f_itself_are_the_business_of_log_z():
    """A constant of a million in f makes steps of 0.06, and is nothing in the data."""
    units = fit_units("standardise", normal(0), integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    rows = {name: Rows(normal(seed), units, False) for seed, name in enumerate(("train", "test"))}
    for up, ok in ((3e6, True), (0.0, True)):
        model = TiltedModel(flow, NetworkTilt(lambda c, up=up: up + c[0], gate=1.0))
        found = trust(score(model, rows["test"], jr.key(2)), model, rows, jr.key(3))
        assert {c.ok for c in found if c.name == NAMES["digit"]} == {ok}
