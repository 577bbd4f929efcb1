"""A checkpoint is whole or passed over, and what is gone on with it is what never stopped."""

import errno
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError, Interrupted
from tiltflow.runs import EventLog
from tiltflow.runs.checkpoint import Checkpoints
from tiltflow.runs.events import read_events


def state_of(step):
    """A state of every kind of leaf, told apart by `step`."""
    layer = eqx.nn.Linear(3, 2, key=jr.key(step))
    return {"layer": layer, "key": jr.key(step + 1), "count": jnp.asarray(step), "name": "adam"}


def same(a, b):
    a, b = (eqx.filter(tree, eqx.is_array) for tree in (a, b))
    a, b = (jax.tree.map(lambda x: np.asarray(jr.key_data(x) if x.dtype == a["key"].dtype else x),
                         tree) for tree in (a, b))  # fmt: skip
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture
def make(tmp_path):
    logs = []

    def make(**settings):
        logs.append(EventLog(tmp_path / "events.jsonl"))
        return Checkpoints(tmp_path / "checkpoints", logs[-1], **settings)

    yield make
    for log in logs:
        log.close()


def offer(checkpoints, steps, stage="tilt"):
    for step in steps:
        checkpoints._log.write(stage, "progress", step=step)
        checkpoints.offer(stage, step, state_of(step), {"step": step, "best": np.pi * step})


def test_the_newest_state_comes_back_bit_for_bit(make, tmp_path):
    offer(make(every_steps=1), [1, 2, 3])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    tree, plain = make().last("tilt", state_of(9))
    assert same(tree, state_of(3))
    assert not same(tree, state_of(2))
    assert tree["name"] == "adam"
    assert plain == {"step": 3, "best": np.pi * 3}
    assert make().last("backbone", state_of(9)) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "strange"])
def test_a_damaged_file_is_passed_over(make, tmp_path, damage):
    offer(make(every_steps=1), [1, 2])
    newest = max((tmp_path / "checkpoints").iterdir())
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    written = {"cut": data[: len(data) // 2], "flipped": data, "empty": b"", "strange": b"x" * 99}
    newest.write_bytes(written[damage])
    tree, plain = make().last("tilt", state_of(9))
    assert plain["step"] == 1
    assert same(tree, state_of(1))


def test_a_state_takes_its_place_whole_or_not_at_all(make, tmp_path, monkeypatch):
    """Whatever is written before is under another name; in place, it would be there already."""

    def refuse(*names):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoints = make(every_steps=1)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="cannot be written"):
        offer(checkpoints, [1])
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_log_goes_back_to_the_newest_state(make, tmp_path):
    checkpoints = make(every_steps=2)
    offer(checkpoints, [1, 2, 3])
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 3
    before = checkpoints.clock()
    assert 0 < make().clock() < before + 1
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 2


def test_states_are_saved_by_time_and_by_step(make, tmp_path):
    def saved():
        return {path.name for path in (tmp_path / "checkpoints").glob("*")}

    offer(make(), range(1, 50))
    assert saved() == set()
    offer(make(every_steps=20), range(1, 50))
    assert saved() == {f"tilt-{step:012d}.safetensors" for step in (20, 40)}
    offer(make(every=0.0), [60])
    assert "tilt-000000000060.safetensors" in saved()


def test_a_stop_saves_first(make):
    with pytest.raises(Interrupted, match="because"):
        offer(make(stop=lambda: "because"), [1])
    assert make().last("tilt", state_of(9))[1]["step"] == 1


def test_a_stop_between_offers_saves_the_last_and_the_log_of_that_moment(make, tmp_path):
    stops = iter([None, "interrupted"])
    checkpoints = make(stop=lambda: next(stops))
    offer(checkpoints, [7])
    assert not (tmp_path / "checkpoints").exists()
    checkpoints._log.write("tilt", "looking", done=3)
    with pytest.raises(Interrupted, match="interrupted"):
        checkpoints.listen()
    assert same(make().last("tilt", state_of(9))[0], state_of(7))
    assert [event["event"] for event in read_events(tmp_path / "events.jsonl")] == ["progress"]


def test_a_finished_stage_drops_its_states(make, tmp_path):
    checkpoints = make(every_steps=1)
    offer(checkpoints, [1, 2])
    checkpoints.finish("tilt", state_of(5), {"value": 1.5})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["tilt-done.safetensors"]
    tree, plain = make().finished("tilt", state_of(9))
    assert same(tree, state_of(5))
    assert plain == {"value": 1.5}
    assert make().finished("backbone", state_of(9)) is None


def test_a_state_of_other_shapes_is_refused(make):
    offer(make(every_steps=1), [1])
    other = state_of(1) | {"layer": eqx.nn.Linear(4, 2, key=jr.key(0))}
    with pytest.raises(InputError, match="arrays of other shapes"):
        make().last("tilt", other)
