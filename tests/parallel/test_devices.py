"""Two devices, and two processes, make the numbers of one, each with half of the work."""

import functools
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import small_fit
from children import HERE, ended, free_port, started

from tiltflow.cli.main import run
from tiltflow.errors import InputError
from tiltflow.parallel.devices import over_devices

SCRIPT = HERE / "small_fit.py"
WHOLE = {  # rows that no device may have all of: particles; data and particles of a step; chains
    "stage": {
        small_fit.PARTICLES,
        small_fit.DATA + small_fit.BATCH,
        small_fit.DATA + small_fit.PARTICLES // 2,
    },
    "advance": {small_fit.CHAINS},
}


def made(child):
    """What a child has printed."""
    status, out, error = ended(child)
    assert status == 0, error
    assert error == ""
    return json.loads(out)


def rows_of(folder, program):
    """How many rows go through the tilt's network at once on one device, as it was compiled."""
    width = small_fit.WIDTH
    files = list(folder.glob(f"*.jit_{program}.*after_optimizations.txt"))
    assert files
    text = "".join(file.read_text() for file in files)
    found = re.findall(rf"f32\[(\d+),{width}\]|f32\[{width},(\d+)\]", text)
    return {int(first or second) for first, second in found}


def compiled_into(folder):
    """The flag that has programs written into a folder."""
    return [f"--xla_dump_to={folder}", "--xla_dump_hlo_module_re=jit_(stage|advance)"]


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """The numbers of two devices, and where their programs are."""
    folder = tmp_path_factory.mktemp("compiled")
    child = started(SCRIPT, *small_fit.PROGRAMS, devices=2, flags=compiled_into(folder))
    return made(child), folder


@functools.cache
def of_one(name):
    """What a program makes on one device: in this process."""
    return small_fit.numbers(name)[name]


def close(found, expected):
    """Whether numbers are the same, but for rounding."""
    return np.allclose(found, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", small_fit.PROGRAMS)
def test_two_devices_make_the_numbers_of_one(name, two_devices):
    assert two_devices[0]["devices"] == 2
    assert close(two_devices[0][name], of_one(name))


def test_one_percent_of_the_rate_would_be_seen():
    """Power: the comparison above tells apart what differs by little."""
    faster = small_fit.persistent(rate=1.01 * 1e-3)
    assert not close(small_fit.told(faster), of_one("persistent"))


@pytest.mark.parametrize("program", sorted(WHOLE))
def test_each_of_two_devices_has_half_of_the_rows(program, two_devices):
    rows = rows_of(two_devices[1], program)
    assert not rows & WHOLE[program]
    assert {number // 2 for number in WHOLE[program]} <= rows


def test_without_spread_each_device_has_all_of_them(tmp_path):
    """Power: the rows above tell whether work is divided."""
    names = ("persistent", "chains")
    made(started(SCRIPT, *names, "--broken", devices=2, flags=compiled_into(tmp_path)))
    assert WHOLE["stage"] & rows_of(tmp_path, "stage")
    assert WHOLE["advance"] <= rows_of(tmp_path, "advance")


@pytest.mark.parametrize("name", ["persistent", pytest.param("chains", marks=pytest.mark.slow)])
def test_two_processes_make_the_numbers_of_one(name):
    """A stage moves chains, too; the backbone is in test_processes.py."""
    port = free_port()
    children = [started(SCRIPT, name, "--process", number, "--port", port) for number in range(2)]
    for child in children:
        found = made(child)
        assert found["devices"] == 2
        assert close(found[name], of_one(name))


def too_much():
    return jnp.zeros(2**45)


def test_what_does_not_fit_says_what_to_lower():
    with pytest.raises(InputError, match="GiB: lower the number of particles"):
        over_devices(too_much)()


def test_the_command_says_it_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tiltflow.fitting.experiment.fit", lambda *given, **options: too_much())
    assert run(["fit", "digits", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tiltflow: the memory is too small for another")
    assert told.count("\n") == 1
