"""When descent stops and what it keeps, with scores that are made up: nothing is learned."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.learning.early_stopping import CHUNK, Descent, descend


class Events(list):
    def __call__(self, phase, event, **fields):
        self.append((event, fields))


def run(scores, *, start=9.0, patience=2, patient_until=0.0, left=None, rises=math.inf):
    """Descend from `start` along `scores`, one a chunk: what was kept, its score, and the events.

    Weights are minus the number of the chunk, their average is that number.
    """
    events = Events()

    def chunk(state, key, steps):
        step = state.step + CHUNK
        return Descent(-(step / CHUNK), step / CHUNK, None, step), jnp.zeros(())

    found = descend(
        jnp.zeros(()),
        chunk,
        lambda average: [start, *scores][int(average)],
        steps=CHUNK * len(scores),
        patience=patience,
        patient_until=patient_until,
        what="likelihood",
        rate=0.1,
        key=jr.key(0),
        listen=events,
        keeper=None,
        left=left,
        rises=rises,
    )
    return float(found.best), found.nll, events


def looks(events):
    return sum(event == "progress" for event, _ in events)


def test_the_average_with_the_best_score_is_kept():
    kept, score, events = run([3.0, 1.0, 2.0])
    assert (kept, score) == (2.0, 1.0)
    assert events[-1] == ("kept", {"step": 2 * CHUNK, "nll_val": 1.0})
    assert run([3.0, 2.0, 1.0])[:2] == (3.0, 1.0)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_stops_after_as_many_looks_as_it_has_patience(patience):
    scores = [2.0, 1.0, 5.0, 4.0, 3.0, 2.0, 0.5]
    _, score, events = run(scores, patience=patience)
    assert looks(events) == 2 + patience
    assert score == 1.0
    assert run(scores, patience=5)[1] == 0.5  # power: with more patience there is a better one


def test_it_does_not_stop_before_it_may():
    scores = [1.0, 5.0, 4.0, 3.0, 2.0, 0.5]
    assert run(scores, patience=1, patient_until=5.0 * CHUNK)[1] == 0.5
    assert run(scores, patience=1, patient_until=CHUNK)[1] == 1.0


def test_the_start_is_kept_if_nothing_beats_it():
    kept, score, events = run([3.0, 2.0, 2.5], start=1.0)
    assert (kept, score) == (0.0, 1.0)
    assert events[0] == ("began", {"nll_val": 1.0})
    assert events[-1] == ("kept", {"step": 0, "nll_val": 1.0})
    assert run([3.0, 0.5], start=1.0)[:2] == (2.0, 0.5)  # power


@pytest.mark.parametrize("start", [1.0, float("nan")])
def test_a_score_that_is_never_a_number_is_an_input_error(start):
    """Even where that of the start is one: then it was not learned from."""
    with pytest.raises(InputError, match=r"the likelihood was never finite at rate 0\.1"):
        run([float("nan")] * 3, start=start)


def test_a_start_that_is_no_number_is_left():
    assert run([3.0, 2.0], start=float("nan"))[:2] == (2.0, 2.0)


def test_it_stops_at_scores_that_only_rise_and_not_at_some_that_fall_between():
    only, between = [5.0, 6.0, 7.0, 8.0, 9.0, 0.0], [5.0, 6.0, 7.0, 8.0, 7.9, 8.0, 8.1, 0.0]
    _, score, events = run(only, patience=9, rises=4)
    assert (score, looks(events)) == (5.0, 5)
    assert run(only, patience=9, rises=5)[1] == 0.0
    assert run(between, patience=9, rises=4)[1] == 0.0


@pytest.mark.parametrize(("left", "looked"), [(1e9, 6), (0.0, 1)], ids=["plenty", "none"])
def test_steps_that_there_is_no_time_for_are_taken_off_the_plan(left, looked):
    scores = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    _, score, events = run(scores, patience=9, left=lambda seconds: left)
    assert looks(events) == looked
    assert score == scores[looked - 1]


def test_the_plan_is_as_long_as_the_time_left_divided_by_that_of_a_chunk(monkeypatch):
    ticks, left, told = iter(range(100)), iter([9.0, 2.0, 3.0, 1.0, 0.0]), []
    monkeypatch.setattr("tiltflow.learning.early_stopping.time.monotonic", lambda: next(ticks))
    _, _, events = run(
        [9.0 - i for i in range(8)],
        patience=9,
        left=lambda seconds: told.append(seconds) or next(left),
    )
    # A chunk takes a second by this clock; the first one's is not counted, as it may be compiled.
    plans = [fields["steps"] // CHUNK for event, fields in events if event == "progress"]
    assert told == pytest.approx([np.nan, *[1 / CHUNK] * 4], nan_ok=True)
    assert plans == [8, 4, 6, 5, 5]  # what was taken off comes back where there is time after all
