"""How long flows are learned, with a budget and without one."""

import math
from dataclasses import replace

import pytest

from tiltflow.errors import InputError
from tiltflow.fitting.members import (
    AFTER,
    LONGER,
    LONGEST,
    MOST,
    OF_CONTRAST,
    Went,
    evaluations,
    number_of_flows,
    pays,
    seconds_after,
    steps_of,
)
from tiltflow.fitting.settings import suited_to
from tiltflow.learning.early_stopping import CHUNK
from tiltflow.learning.fit_members import MemberSettings

FIRST, LONG_IS_BETTER, LONG_IS_WORSE = (
    Went(5.0, 1_000, 0.002),
    Went(4.5, 3_000, 0.002),
    Went(5.1, 750, 0.002),
)


def test_the_second_flow_is_a_trial_of_more_steps_and_the_others_do_what_paid():
    assert steps_of([], 1_000) == 1_000
    assert steps_of([FIRST], 1_000) == LONGER * 1_000
    assert steps_of([FIRST, LONG_IS_BETTER], 1_000) == LONGER * 1_000
    assert steps_of([FIRST, LONG_IS_WORSE], 1_000) == 1_000
    assert pays([FIRST, LONG_IS_BETTER])
    assert not pays([FIRST, LONG_IS_WORSE])


def test_where_the_first_flow_has_not_moved_there_is_nothing_to_try():
    assert steps_of([Went(5.0, 0, 0.002)], 1_000) == 1_000


def test_a_budget_is_used_where_more_steps_pay_and_never_exceeded():
    assert steps_of([FIRST, LONG_IS_BETTER], 1_000, 20_000) == 20_000
    assert steps_of([FIRST, LONG_IS_WORSE], 1_000, 20_000) == 1_000
    assert steps_of([FIRST], 1_000, 20_000) == LONGER * 1_000
    assert steps_of([FIRST], 1_000, 20_000, is_last=True) == 20_000
    assert steps_of([], 1_000, is_last=True, in_budget=True) == LONGEST * 1_000
    for affordable in (100.0, 777.0, 1_300.0, 2_990.0):
        steps = steps_of([FIRST], 1_000, affordable)
        assert steps % CHUNK == 0
        assert steps < affordable + CHUNK


def test_flows_are_as_many_as_the_settings_or_the_budget_say():
    assert number_of_flows(MemberSettings(flows=3), 1_000, 5) == 3
    few, many = (number_of_flows(MemberSettings(budget=60.0), rows, 5) for rows in (1_000, 30_000))
    assert 1 == many < few <= MOST
    assert number_of_flows(MemberSettings(budget=30.0), 10_000, 5) == 2
    assert number_of_flows(MemberSettings(budget=36_000.0), 1_000, 5) == MOST
    of_few, of_many = (number_of_flows(MemberSettings(budget=300.0), 9_000, n) for n in (5, 182))
    assert 2 <= of_many < of_few


def test_a_judgement_of_more_held_out_rows_takes_longer():
    settings = suited_to(None, 1_000, (5,))
    assert evaluations(settings, 2_000) - evaluations(settings, 1_000) == 20_000


def test_chains_that_pick_among_many_draws_take_longer():
    few, many = (suited_to(None, 1_000, (columns,)) for columns in (5, 40))
    assert evaluations(many, 100) > 3 * evaluations(few, 100)
    alike = replace(many, tilt=replace(many.tilt, nce_steps=1))
    more = seconds_after(many, 100, 3, 0.01) - seconds_after(alike, 100, 3, 0.01)
    assert more == pytest.approx(OF_CONTRAST * 0.01 * (many.tilt.nce_steps - 1))
    assert seconds_after(few, 100, 3, 0.0) == AFTER


@pytest.mark.parametrize("seconds", [-1.0, 5.0, math.inf, math.nan])
def test_a_budget_that_nothing_fits_into_is_refused_by_name(seconds):
    with pytest.raises(InputError, match=r"budget of .* seconds; expected at least 30"):
        MemberSettings(budget=seconds).check()


def test_a_budget_is_for_an_ensemble():
    of_a_table = suited_to(None, 1_000, (5,))
    members = replace(of_a_table.members, budget=60.0)
    replace(of_a_table, members=members).check(0)
    with pytest.raises(InputError, match="a budget with backbone 'coupling'; expected an ensemble"):
        replace(suited_to("coupling", 1_000, (5,)), members=members).check(0)
