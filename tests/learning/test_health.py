"""The monitor reacts to each of its triggers, and to nothing else."""

import math

import pytest

from tiltflow.learning.health import Monitor

WELL = {"agreement": 1.0, "agree_within": 2.5, "share": 0.3, "acceptance": 0.8, "finite": True}


def test_a_healthy_stage_changes_nothing():
    monitor = Monitor(share_end=0.3)
    assert monitor.react(**WELL) is None
    assert monitor == Monitor(share_end=0.3)
    assert not monitor.gave_up


@pytest.mark.parametrize(
    ("ill", "action", "rate_scale", "share_end"),
    [
        ({"finite": False}, "roll back, halve the rate", 0.5, 0.3),
        ({"acceptance": 0.2}, "roll back, lower the rate by 30%", 0.7, 0.3),
        ({"agreement": -4.0}, "end stages at an effective share of 0.4", 1.0, 0.4),
        ({"agreement": 4.0}, "end stages at an effective share of 0.4", 1.0, 0.4),
        ({"agreement": math.nan}, "roll back, lower the rate by 30%", 0.7, 0.3),
        ({"agreement": 1e6}, "roll back, lower the rate by 30%", 0.7, 0.3),
        ({"share": 0.004}, "roll back, lower the rate by 30%", 0.7, 0.3),
        ({"share": math.nan}, "roll back, lower the rate by 30%", 0.7, 0.3),
        # The gravest comes first: nothing else is to be read from a state that is not finite.
        ({"finite": False, "acceptance": 0.0}, "roll back, halve the rate", 0.5, 0.3),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_each_trigger_has_its_reaction(ill, action, rate_scale, share_end):
    monitor = Monitor(share_end=0.3)
    found, why = monitor.react(**(WELL | ill))
    assert found == action
    assert why
    assert monitor.rate_scale == pytest.approx(rate_scale)
    assert monitor.share_end == pytest.approx(share_end)


def test_stages_end_at_a_share_of_at_most_eight_tenths():
    monitor = Monitor(share_end=0.3)
    for _ in range(10):
        monitor.react(**(WELL | {"agreement": 9.0}))
    assert monitor.share_end == 0.8


def test_it_gives_up_after_ten_halvings():
    monitor = Monitor(share_end=0.3)
    for _ in range(9):
        monitor.react(**(WELL | {"finite": False}))
        assert not monitor.gave_up
    monitor.react(**(WELL | {"finite": False}))
    assert monitor.gave_up
