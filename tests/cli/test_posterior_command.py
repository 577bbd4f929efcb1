"""`tiltflow posterior model.py:log_density`: exit statuses, what is written, mistakes."""

import json

import numpy as np
import pytest

from tiltflow.cli.main import run
from tiltflow.fitting.posterior.verdict import Verdict

MODEL = """
import jax.numpy as jnp
from tiltflow import Positive, Real

parameters = {"mu": Real(), "tau": Positive()}


def log_density(mu, tau):
    return -0.5 * mu**2 - 0.5 * ((jnp.log(tau) - 0.5 * mu) / 0.5) ** 2 - jnp.log(tau)


def rounded(mu, tau):
    return jnp.float32(-0.5 * mu**2 - tau) - jnp.float32(1e8)
"""
QUICK = ["--evaluations", "50000", "--draws", "1000", "--log-z-within", "0.1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "model.py"
    file.write_text(MODEL)
    return file


def test_a_density_in_a_file_is_drawn_from(model, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert run(["posterior", f"{model}:log_density", "--out", str(out), *QUICK]) == 0
    told = capsys.readouterr().out
    assert "log Z" in told
    assert "report.html" in told
    numbers = json.loads((out / "posterior.json").read_text())
    assert abs(numbers["log_z"]["mean"] - np.log(2 * np.pi * 0.5)) < 0.3
    with np.load(out / "draws.npz") as draws:
        assert draws["tau"].min() > 0
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "could not be drawn" not in page
    assert "mu" in page
    # The same line reads what is there, and `report` writes the page anew.
    assert run(["posterior", f"{model}:log_density", "--out", str(out), "--json", *QUICK]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["log_z"] == numbers["log_z"]
    (out / "report.html").unlink()
    assert run(["report", str(out)]) == 0
    assert (out / "report.html").is_file()
    # Where the chains have not converged, the status says so.
    monkeypatch.setattr(Verdict, "converged", False)
    assert run(["posterior", f"{model}:log_density", "--out", str(out), *QUICK]) == 3


@pytest.mark.slow
def test_a_failed_verdict_is_status_3(model, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["posterior", f"{model}:rounded", "--out", str(out), *QUICK]) == 3
    assert "rounding" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("density", "more", "words"),
    [
        ("model.py", [], "names no function"),
        ("absent.py:log_density", [], "absent.py is no file"),
        ("model.py:density", [], "has no 'density'; it has"),
        ("broken.py:log_density", [], "broken.py failed: ZeroDivisionError: division by zero"),
        ("bare.py:log_density", [], "defines no `parameters`"),
        ("model.py:log_density", ["--seconds", "soon"], "--seconds is 'soon'"),
        ("model.py:log_density", ["--evaluations", "10"], "evaluations is 10"),
        ("model.py:log_density", ["--draws", "7"], "draws is 7"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(density, more, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "bare.py").write_text("def log_density(x):\n    return 0.0\n")
    assert run(["posterior", density, "--out", "run", *more]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert captured.out == ""
    assert not (tmp_path / "run").exists()
