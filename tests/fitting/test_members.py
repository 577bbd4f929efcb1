"""How long flows are learned, with a budget and without one."""

import math
from dataclasses import replace

import pytest

from tiltflow.errors import InputError
from tiltflow.fitting.budget import (
    A_SCORE,
    AFTER,
    COMPILING,
    MOST,
    MOST_OF_CONTRAST,
    OF_CONTRAST,
    OF_CONTRASTS,
    PASSES,
    Budget,
    number_of_flows,
)
from tiltflow.fitting.members import LONGER, LONGEST, Went, pays, step_of, steps_of
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


def test_a_step_takes_as_long_as_the_fastest_known():
    assert step_of([]) == 0
    assert step_of([Went(5.0, 250, math.nan)]) == 0
    assert step_of([Went(5.0, 250, 0.01), FIRST]) == FIRST.seconds


def in_budget(seconds, rows, columns):
    settings = suited_to(None, rows, (columns,))
    return replace(settings, members=replace(settings.members, budget=seconds))


def test_flows_are_as_many_as_the_settings_or_the_budget_say():
    assert number_of_flows(in_budget(0.0, 1_000, 5), 1_000, 5) == 3
    few, many = (number_of_flows(in_budget(60.0, n, 5), n, 5) for n in (1_000, 30_000))
    assert 1 == many < few <= MOST
    assert number_of_flows(in_budget(30.0, 10_000, 5), 10_000, 5) == 2
    assert number_of_flows(in_budget(36_000.0, 1_000, 5), 1_000, 5) == MOST
    of_few, of_many = (number_of_flows(in_budget(300.0, 9_000, n), 9_000, n) for n in (5, 182))
    assert 2 <= of_many < of_few
    # A contrast has to have its time, too.
    assert number_of_flows(in_budget(60.0, 1_000, 40), 1_000, 40) < few


def plan(settings, held_out=100, flows=3):
    return Budget(settings, held_out, flows, lambda: 20.0, lambda: True)


def test_what_follows_the_flows_is_left_for_it():
    settings = in_budget(300.0, 1_000, 5)
    assert plan(settings).for_flows(0.0) == 300 - 20 - AFTER == plan(settings).for_contrast(0.0)
    lefts = [plan(settings, held_out=n).for_flows(0.01) for n in (1_000, 2_000)]
    a_pass = 0.01 / (PASSES * settings.members.batch)
    assert lefts[0] - lefts[1] == pytest.approx(20_000 * 3 * A_SCORE * a_pass)
    assert plan(settings, flows=6).for_flows(0.01) < plan(settings).for_flows(0.01)


def test_chains_that_pick_among_many_draws_and_a_contrast_take_longer():
    few, many = (plan(in_budget(300.0, 1_000, columns)) for columns in (5, 40))
    assert many.for_contrast(0.003) < few.for_contrast(0.003) - 5
    assert few.for_flows(0.003) == few.for_contrast(0.003)
    steps = many.settings.tilt.nce_steps
    no_contrast = replace(many.settings.tilt, nce_steps=1)
    short = many._replace(settings=replace(many.settings, tilt=no_contrast))
    more = short.for_flows(0.003) - many.for_flows(0.003)
    assert more == pytest.approx(OF_CONTRAST * 0.003 * (steps - 1))

    # So do programs that are not compiled yet.
    def anew(plan):
        return plan.for_contrast(0.003) - plan._replace(is_compiled=bool).for_contrast(0.003)

    assert (anew(few), anew(many)) == pytest.approx((COMPILING, COMPILING + OF_CONTRASTS))
    # What flows have spent since is not taken off the contrast's part.
    later = many._replace(clock=lambda: 50.0)
    assert later.for_flows(0.003, spent=30.0) == pytest.approx(many.for_flows(0.003))
    # Where there is little time, flows keep most of it.
    tight = many._replace(clock=lambda: 260.0)
    left = tight.for_flows(0.0003)
    assert 0 < left < tight.for_contrast(0.0003)
    assert left > (1 - MOST_OF_CONTRAST) * tight.for_contrast(0.0003) - 5


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
