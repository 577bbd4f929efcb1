"""What is compiled is kept where it is safe to keep it, and nowhere else."""

import os
import subprocess
import sys

import pytest

from tiltflow.cli import compiled
from tiltflow.cli.compiled import keep_compiled

VARIABLES = ("TILTFLOW_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")
COMPILE = """
import sys
from tiltflow.cli.compiled import keep_compiled
keep_compiled()
import jax, jax.numpy as jnp
def f(x):
    for i in range(15):
        x = jnp.tanh(x @ x.T) + i
    return x
print(float(jax.jit(f)(jnp.eye(7)).sum()))
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """None of the variables is set, and those that are set here are forgotten."""
    for name in (*VARIABLES, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setattr(compiled.warnings, "filterwarnings", lambda *_: None)


def test_the_users_cache_folder_is_used_and_is_private(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = keep_compiled()
    assert folder is not None
    assert folder.parent == tmp_path / "tiltflow"
    assert folder.stat().st_mode & 0o077 == 0
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_it_can_be_switched_off(word, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TILTFLOW_CACHE", word)
    assert keep_compiled() is None
    assert list(tmp_path.iterdir()) == []
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_jax_own_variable_is_left_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    assert keep_compiled() is None
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_not_used(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TILTFLOW_CACHE", str(tmp_path / "file"))
    assert keep_compiled() is None


def test_a_folder_that_others_can_write_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTFLOW_CACHE", str(tmp_path))
    folder = keep_compiled()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    folder.chmod(0o777)
    assert keep_compiled() is None


def test_a_folder_that_cannot_be_written_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(compiled.os, "access", lambda *_: False)
    assert keep_compiled() is None


def test_the_oldest_programs_make_room(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTFLOW_CACHE", str(tmp_path))
    folder = keep_compiled()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    for age in range(4):
        file = folder / f"program-{age}"
        file.write_bytes(bytes(10))
        os.utime(file, (1000 - age, 1000 - age))
    monkeypatch.setattr(compiled, "LARGEST", 25)
    keep_compiled()
    assert sorted(file.name for file in folder.iterdir()) == ["program-0", "program-1"]


def test_programs_are_kept_and_damaged_ones_do_no_harm(tmp_path):
    environment = {**os.environ, "TILTFLOW_CACHE": str(tmp_path)}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

    def compile_once():
        done = subprocess.run(
            [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout

    fresh = compile_once()
    kept = [file for file in tmp_path.rglob("*-cache") if file.name.startswith("jit_f-")]
    assert len(kept) == 1
    assert compile_once() == fresh
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    assert compile_once() == fresh
