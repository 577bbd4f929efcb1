"""A budget of time for a fit: what it is planned for, and where there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.fitting.members import EPOCHS, MOST_FLOWS, Plan, evaluations, planned
from tiltflow.fitting.settings import suited_to
from tiltflow.learning.early_stopping import CHUNK, Found
from tiltflow.learning.fit_members import MemberSettings


def first(step=1_000, seconds=0.002):
    return Found(None, 1.0, step, 1_000, seconds)


def test_time_is_spent_on_more_flows_of_the_length_that_rows_are_worth():
    assert planned(first(), 20.0, worth=1_000) == Plan(11, 1_000)
    assert planned(first(), 8.0, worth=1_000) == Plan(5, 1_000)
    assert planned(first(), 1_000.0, worth=1_000) == Plan(MOST_FLOWS, 1_000)


def test_or_on_longer_ones_where_there_are_rows_enough():
    assert planned(first(), 20.0, worth=20_000) == Plan(2, 10_000)
    assert planned(first(), 20.0, worth=5_000) == Plan(3, 5_000)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [(first(step=0), 100.0), (first(), 0.5), (first(), -3.0), (first(seconds=math.nan), 100.0)],
    ids=["nothing to learn", "no time", "late", "not timed"],
)
def test_the_first_flow_stays_alone_where_others_bring_nothing(found, seconds):
    assert planned(found, seconds, worth=1_000).flows == 1


def test_steps_are_whole_chunks_and_fit_in():
    for seconds in np.linspace(1.1, 40.0, 50):
        plan = planned(first(), float(seconds), worth=3_000)
        assert plan.steps % CHUNK == 0
        assert (plan.flows - 1) * plan.steps * 0.002 <= seconds


def test_a_judgement_of_more_held_out_rows_takes_longer():
    settings = suited_to(None, 1_000, (5,))
    assert evaluations(settings, 2_000) - evaluations(settings, 1_000) == 20_000
    assert EPOCHS > 0


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
