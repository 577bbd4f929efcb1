"""A run that was interrupted goes on, and draws what it would have drawn."""

import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiltflow
from tiltflow import InputError
from tiltflow.fitting.posterior import keeping, run
from tiltflow.fitting.posterior.keeping import Keeper

MEANS = np.array([[-4.0, 0.0], [4.0, 1.0]])


def two_modes(x):
    each = -0.5 * jnp.sum((x - MEANS) ** 2, axis=-1) + jnp.log(jnp.array([0.3, 0.7]))
    return jax.nn.logsumexp(each) - math.log(2 * math.pi)


def asked(out, function=two_modes, **more):
    settings = {"draws": 1_000, "log_z_within": 0.1, "evaluations": 50_000, "seconds": None}
    rng = np.random.default_rng(0)
    start = 6 * rng.standard_normal((300, 2))
    tell = lambda line: None  # noqa: E731
    return tiltflow.posterior(function, 2, start=start, out=out, tell=tell, **settings | more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, asked(out)


def stop_before(stage, times, monkeypatch, out):
    """Begin the run, and stop it when such a stage is to be done for so many times."""
    met = []

    def failing(self, state, urgent):
        Keeper.save(self, state)
        met.append(state.todo[0][0] if state.todo else "")
        if met.count(stage) == times:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "offer", failing)
        with pytest.raises(KeyboardInterrupt):
            asked(out)


def assert_same(found, whole):
    np.testing.assert_array_equal(found.draws["x"], whole.draws["x"])
    assert found.log_z == whole.log_z
    assert found.verdict.to_dict() == whole.verdict.to_dict()
    assert found.budget.used == whole.budget.used


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch, whole):
    out = tmp_path / "run"
    stop_before("sample", 2, monkeypatch, out)
    assert_same(asked(out), whole[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "times"),
    [("temper", 1), ("rung", 3), ("go beyond", 2), ("settle", 1), ("fit", 1), ("warm", 1),
     ("match", 1), ("judge", 1), ("refit", 1), ("sample", 4)],
)  # fmt: skip
def test_wherever_it_is_interrupted(stage, times, tmp_path, monkeypatch, whole):
    stop_before(stage, times, monkeypatch, tmp_path / "run")
    assert_same(asked(tmp_path / "run"), whole[1])


def test_a_state_that_forgets_its_random_numbers_draws_others(tmp_path, monkeypatch, whole):
    """The power twin."""
    out = tmp_path / "forgets"
    stop_before("sample", 2, monkeypatch, out)
    fill = keeping.fill

    def forgetful(state, plain, arrays, parts):
        fill(state, plain, arrays, parts)
        state.asked_for += 100

    monkeypatch.setattr(keeping, "fill", forgetful)
    with pytest.raises(AssertionError):
        assert_same(asked(out), whole[1])


def test_a_finished_run_is_read_and_draws_on_if_more_is_asked(whole, monkeypatch):
    out, post = whole
    begun = []
    done = run.done
    monkeypatch.setattr(run, "done", lambda state, *how: begun.append(how) or done(state, *how))
    again = asked(out)
    np.testing.assert_array_equal(again.draws["x"], post.draws["x"])
    assert again.log_z == post.log_z
    assert not begun


def test_more_effective_draws_are_drawn_if_they_are_asked_for(tmp_path, whole):
    out, post = whole
    shutil.copytree(out, tmp_path / "run")
    before = post.worst["ess_bulk"], post.log_density.size
    more = asked(tmp_path / "run", ess=1.5 * max(before[0], 400), evaluations=200_000)
    assert more.worst["ess_bulk"] > 1.4 * max(before[0], 400)
    assert more.log_density.size > before[1]
    check = next(c for c in more.verdict.reasons if c.name == "bulk ESS")
    assert check.limit == 1.5 * max(before[0], 400)


def test_another_question_in_the_same_folder_is_refused(whole, tmp_path):
    out, _ = whole
    with pytest.raises(InputError, match="another start, seed or other parameters"):
        asked(out, seed=1)
    with pytest.raises(InputError, match="a run of another density"):
        asked(out, lambda x: -jnp.sum(x**2))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds thesis"):
        asked(strange)
    with pytest.raises(InputError, match="NaN at all"):
        asked(tmp_path / "never", lambda x: jnp.nan * jnp.sum(x))
    assert not (tmp_path / "never").exists()


def test_a_damaged_state_is_said_to_be_one(tmp_path, monkeypatch):
    out = tmp_path / "damaged"
    stop_before("rung", 1, monkeypatch, out)
    file = out / "checkpoint" / "state.npz"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match="damaged"):
        asked(out)


def test_a_state_is_written_when_it_is_time(tmp_path, monkeypatch):
    written = []
    with Keeper(tmp_path / "run", every=10.0) as keeper:
        monkeypatch.setattr(keeper, "save", written.append)
        now = keeper._saved
        monkeypatch.setattr(keeping.time, "monotonic", lambda: now + 9.9)
        keeper.offer("within", False)
        monkeypatch.setattr(keeping.time, "monotonic", lambda: now + 10.1)
        keeper.offer("late", False)
        keeper.offer("ended", True)
    assert written == ["late", "ended"]
