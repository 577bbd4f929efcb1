"""The monitor reacts to each of its triggers, and to nothing else."""

import math

import pytest

from tiltflow.learning.health import Monitor

WELL = {
    "agreement": 1.0,
    "agree_within": 2.5,
    "lag": 0.5,
    "share": 0.3,
    "acceptance": 0.8,
    "finite": True,
}


def test_a_healthy_stage_changes_nothing():
    monitor = Monitor()
    for _ in range(50):
        assert monitor.react(**WELL) is None
    assert (monitor.rate_scale, monitor.effort) == (1.0, 1)
    assert not monitor.gave_up


@pytest.mark.parametrize(
    ("ill", "action", "rate_scale"),
    [
        ({"finite": False}, "roll back, halve the rate", 0.5),
        ({"acceptance": 0.2}, "roll back, lower the rate by 30%", 0.7),
        ({"agreement": math.nan}, "roll back, lower the rate by 30%", 0.7),
        ({"agreement": 1e6}, "roll back, lower the rate by 30%", 0.7),
        ({"share": 0.004}, "roll back, lower the rate by 30%", 0.7),
        ({"share": math.nan}, "roll back, lower the rate by 30%", 0.7),
        # The gravest comes first: nothing else is to be read from a state that is not finite.
        ({"finite": False, "acceptance": 0.0}, "roll back, halve the rate", 0.5),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_each_trigger_has_its_reaction(ill, action, rate_scale):
    monitor = Monitor()
    found, why = monitor.react(**(WELL | ill))
    assert found == action
    assert why
    assert monitor.rate_scale == pytest.approx(rate_scale)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("what", ["agreement", "lag"])
def test_a_lag_that_stays_asks_for_more_transitions_and_then_for_a_lower_rate(what, sign):
    monitor, actions = Monitor(), []
    for _ in range(20):
        found = monitor.react(**(WELL | {"agreement": 0.0, "lag": 0.0, what: 9.0 * sign}))
        actions += [found[0]] if found else []
    assert actions[:4] == [f"{n} times the transitions" for n in (2, 4, 8, 16)]
    assert set(actions[4:]) == {"lower the rate by 30%"}
    assert monitor.effort == 16


def test_where_particles_can_be_made_anew_a_lag_asks_for_that_and_no_transitions():
    monitor, actions = Monitor(renews=True), []
    for _ in range(20):
        found = monitor.react(**(WELL | {"lag": 9.0}))
        assert monitor.due == (found is not None)
        actions += [found[0]] if found else []
        monitor.due = False
    assert set(actions) == {"particles anew, lower the rate by 30%"}
    assert monitor.effort == 1
    assert monitor.rate_scale == pytest.approx(0.7 ** len(actions))


def test_one_stage_that_lags_by_chance_changes_nothing():
    monitor = Monitor()
    assert monitor.react(**(WELL | {"lag": 5.0})) is None
    assert monitor.react(**WELL) is None


def test_short_stages_slow_learning_down_and_never_end_it():
    monitor = Monitor()
    assert monitor.pace(20, 20) is None
    assert monitor.pace(5, 0) is None
    action, why = monitor.pace(5, 20)
    assert (action, monitor.rate_scale) == ("lower the rate by 30%", pytest.approx(0.7))
    assert "5 steps" in why
    for _ in range(100):
        monitor.pace(5, 20)
    assert not monitor.gave_up


def test_it_gives_up_after_ten_halvings():
    monitor = Monitor()
    for _ in range(9):
        monitor.react(**(WELL | {"finite": False}))
        assert not monitor.gave_up
    monitor.react(**(WELL | {"finite": False}))
    assert monitor.gave_up
