"""A process that fits many tables: no program depends on the number of rows, and none is kept.

The fits are made by a process of their own, whose memory maps are those of nothing else.
"""

import inspect
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from fits_worker import COLUMNS, Compiled, table

from tiltflow.backbones import CouplingFlow, fit_units
from tiltflow.evaluation.likelihood import score
from tiltflow.fitting import experiment, training
from tiltflow.learning import Rows, filled
from tiltflow.mcmc import run
from tiltflow.model.loading import from_plain
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel import memory_maps
from tiltflow.tilts import MLPTilt

linux = pytest.mark.skipif(not memory_maps.MAPS.exists(), reason="memory maps are counted there")
SHARE = 1 / 5  # of a fit's time that may be compiling, from the third fit on
FEW_MAPS = 200  # that may come and go; a fit that compiles all anew takes 1,600
MEMORY = 50.0  # MiB, likewise


def told_by(*arguments):
    """What the worker prints."""
    worker = Path(__file__).with_name("fits_worker.py")
    done = subprocess.run(
        [sys.executable, worker, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def check_levels_off(told):
    """From the third of a kind of units on: hardly any compiling, and no more maps than before."""
    first, later, seen = [], [], Counter()
    for one in told:
        seen[one["units"]] += 1
        (later if seen[one["units"]] > 2 else first).append(one)
    assert max(one["compiling"] / one["seconds"] for one in later) < SHARE
    assert max(one["maps"] for one in later) < max(one["maps"] for one in first) + FEW_MAPS


@linux
def test_fits_of_tables_of_different_size_compile_nothing_anew():
    """The twin, in 4 fits, of the 200 below."""
    told = told_by("4")
    assert len({one["rows"] for one in told}) > 3
    check_levels_off(told)
    assert sum(one["compiled"] for one in told[2:]) == 0


@pytest.mark.slow
@linux
def test_maps_and_memory_level_off_in_200_fits():
    told = told_by("200")
    check_levels_off(told)
    assert told[-1]["maps"] < told[20]["maps"] + FEW_MAPS
    assert told[-1]["memory"] < told[20]["memory"] + MEMORY


@pytest.mark.slow
@linux
def test_tables_that_become_histograms_compile_nothing_anew():
    check_levels_off(told_by("12", "--skewed"))


@pytest.mark.slow
@linux
def test_the_check_has_power_against_rows_without_room():
    with pytest.raises(AssertionError):
        check_levels_off(told_by("4", "--without-room"))


@pytest.fixture(scope="module")
def model():
    units = fit_units("standardise", table(0, False), integers=False)
    flow = CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0))
    return TiltedModel(flow, MLPTilt(COLUMNS, width=4, key=jr.key(1)))


def scored(model, sizes):
    """Programs that are compiled to score so many rows, from the second size on."""
    x, compiled, before = table(0, False), Compiled(), 0
    for index, size in enumerate(sizes):
        score(model, Rows(x[:size], model.backbone.units, integers=False), jr.key(0))
        before = before if index else compiled.number
    return compiled.number - before


def test_scoring_other_numbers_of_rows_compiles_nothing(model, monkeypatch):
    """With its power, cheaply: an array without room compiles for each size."""
    assert scored(model, (300, 301, 302)) == 0
    monkeypatch.setattr(filled, "room", lambda number: number)
    assert scored(model, (303, 304, 305)) >= 2


def test_room_changes_no_result(model, monkeypatch):
    """Not even noise, keys and picked rows: they depend on a row's place alone."""
    x = np.random.default_rng(2).integers(0, 6, size=(300, COLUMNS)).astype(np.float32)
    units = fit_units("gaussianise", x, integers=True)

    def numbers():
        rows = Rows(x, units, integers=True)
        embedded = rows.embedded(jr.key(5), 3)
        mean = jax.jit(lambda some: some.mean(lambda y, w: jnp.sum(y) + w))(embedded)
        picked = jax.jit(lambda rows, key: rows.batch(key, 64)[0])
        return *rows.every(jr.key(3), 2), picked(rows, jr.key(4)), mean

    with_room = numbers()
    monkeypatch.setattr(filled, "room", lambda number: number)
    without = numbers()
    for a, b in zip(with_room, without, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1, 1023, 1024, 1025, 8_000, 10_000, 1_000_000])
def test_there_is_room_for_all_and_for_a_quarter_more_at_most(number):
    there = filled.room(number)
    assert there % filled.FEWEST == 0
    assert number <= there <= max(1.25 * number, number + filled.FEWEST)


def test_there_are_few_rooms():
    assert len({filled.room(number) for number in range(300, 900)}) == 1
    assert len({filled.room(number) for number in range(1, 1_000_000, 100)}) < 40


@pytest.fixture
def most(tmp_path, monkeypatch):
    """A file that says how many maps there are, in place of the kernel's."""
    monkeypatch.setattr(memory_maps, "MOST", tmp_path / "max_map_count")
    monkeypatch.setattr(memory_maps._Left, "maps", 0)
    return tmp_path / "max_map_count"


@jax.jit
def program(x):
    return jnp.cumsum(jnp.sin(x)) + jnp.max(x)


@linux
def test_programs_are_let_go_of_when_half_of_the_maps_are_in_use(most):
    before = memory_maps.maps_in_use()
    for size in range(10, 18):
        program(np.ones(size))
    used = memory_maps.maps_in_use()
    assert used > before + 20
    most.write_text(str(3 * used))
    assert not memory_maps.let_go_if_many()
    assert memory_maps.maps_in_use() >= used  # power
    most.write_text(str(2 * used - 2))
    assert memory_maps.let_go_if_many()
    assert memory_maps.maps_in_use() < used - 20


def test_a_process_that_has_many_maps_for_other_reasons_is_left_alone(most, tmp_path, monkeypatch):
    cleared, maps = [], tmp_path / "maps"
    monkeypatch.setattr(memory_maps, "MAPS", maps)
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    most.write_text("1000")
    for used, number in [(499, 0), (500, 1), (700, 1), (749, 1), (750, 2), (900, 2)]:
        maps.write_text("a map\n" * used)
        memory_maps.let_go_if_many()
        assert len(cleared) == number, used


@pytest.mark.parametrize("caller", [experiment.fit, training.Stages.run, run.sample, from_plain])
def test_fits_stages_runs_and_models_let_go(caller, monkeypatch):
    def heard():
        raise InterruptedError

    monkeypatch.setitem(caller.__globals__, "let_go_if_many", heard)
    given = [None] * sum(
        p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        for p in inspect.signature(caller).parameters.values()
    )
    named = {
        p.name: None
        for p in inspect.signature(caller).parameters.values()
        if p.default is p.empty and p.kind is p.KEYWORD_ONLY
    }
    with pytest.raises(InterruptedError):
        caller(*given, **named)


def test_nothing_is_let_go_of_where_maps_cannot_be_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "clear_caches", lambda: pytest.fail("it was called"))
    for name in ("MAPS", "MOST"):
        with monkeypatch.context() as patch:
            patch.setattr(memory_maps, name, tmp_path / "absent")
            assert not memory_maps.let_go_if_many()
