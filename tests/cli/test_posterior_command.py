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

    assert json.loads((out / "density.json").read_text())["density"] == f"{model}:log_density"


CHAINS, DRAWS = 4, 25


@pytest.fixture
def folder(tmp_path):
    """Makes a folder such as `tiltflow posterior` writes, with this log Z and status."""

    def make(name, log_z=-3.0, status="ok"):
        out = tmp_path / name
        rng = np.random.default_rng(0)
        arrays = {"mu": rng.normal(size=(CHAINS, DRAWS)), "w": rng.normal(size=(CHAINS, DRAWS, 2))}
        arrays |= {"log_density": rng.normal(size=(CHAINS, DRAWS))}
        out.mkdir()
        np.savez(out / "draws.npz", mode=np.zeros((CHAINS, DRAWS), int), **arrays)
        mode = {"share": 1.0, "error": 0.0, "log_z": log_z, "mean": {"mu": 0.0}, "found_by": 2}
        evidence = {
            "mean": log_z, "low": log_z - 0.1, "high": log_z + 0.1, "lower": log_z - 0.2,
            "upper": log_z + 0.2, "standard_error": 0.05, "holds": True,
        }  # fmt: skip
        verdict = {
            "status": status, "converged": True, "text": f"{status}: so it is", "checks": [],
            "searched": "2 populations", "helped": [],
        }  # fmt: skip
        worst = {"rhat": 1.004, "rhat_of": "mu", "ess_bulk": 700.0, "ess_tail": 650.0}
        told = {
            "verdict": verdict, "log_z": evidence, "modes": [mode], "worst": worst, "trail": [],
            "seconds": 12.0, "evaluations": 50_000, "stages": {},
        }  # fmt: skip
        (out / "posterior.json").write_text(json.dumps(told))
        return out

    return make


def test_info_says_what_is_in_it(folder, capsys):
    out = folder("a")
    assert run(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "-3.0000 ± 0.1000, bounds -3.200 to -2.800" in told
    assert "ok: so it is" in told
    assert run(["info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["log_z"]["mean"] == -3.0


def test_compare_tells_log_bayes_factors_with_intervals(folder, tmp_path, capsys):
    first, second, third = folder("a", -3.0), folder("b", -1.5), folder("c", -4.0, "caution")
    assert run(["compare", str(first), str(second), str(third), "--json"]) == 0
    best, *others = json.loads(capsys.readouterr().out)["runs"]
    assert best["run"] == str(second)
    assert best["log_bayes_factor"] is None
    factor = others[0]["log_bayes_factor"]
    half = 1.959964 * 0.05 * 2**0.5
    assert factor["mean"] == -1.5
    assert factor["high"] == pytest.approx(-1.5 + half, abs=1e-5)
    assert factor["holds"]
    assert not others[1]["log_bayes_factor"]["holds"]
    assert run(["compare", str(first), str(third)]) == 0
    told = capsys.readouterr().out
    assert "-1.000 ± 0.139" in told
    assert "do not trust it: a verdict is caution" in " ".join(told.split())
    for more, words in (
        ([str(first)], "alone"), ([str(first), str(first)], "given twice"),
        ([str(first), str(tmp_path)], "folders of one kind"),
        ([str(first), str(second), "--out", "page.html"], "no page"),
    ):  # fmt: skip
        assert run(["compare", *more]) == 2
        assert words in capsys.readouterr().err


def test_sample_writes_the_draws_as_rows(folder, tmp_path, capsys):
    out, table = folder("a"), tmp_path / "rows.csv"
    assert run(["sample", str(out), "--out", str(table), "--draws", "30"]) == 0
    lines = table.read_text().splitlines()
    assert lines[0] == "mu,w[0],w[1],log_density"
    assert len(lines) == 31
    with np.load(out / "draws.npz") as arrays:
        known = set(np.round(arrays["mu"].ravel(), 6))
    assert {round(float(line.split(",")[0]), 6) for line in lines[1:]} <= known
    arrays = tmp_path / "rows.npz"
    assert run(["sample", str(out), "--out", str(arrays)]) == 0
    with np.load(arrays) as file:
        assert file["w"].shape == (CHAINS * DRAWS, 2)
    assert capsys.readouterr().err == ""


def test_sample_until_goes_on_with_the_run(folder, model, monkeypatch, capsys):
    out, asked = folder("a"), []
    line = ["sample", str(out), "--until", "ess=900", "--time-limit", "30s"]
    assert run(line) == 2
    assert "does not say which density" in capsys.readouterr().err
    wishes = {"density": f"{model}:log_density", "log_z_within": 0.1, "draws": 1_000, "seed": 3}
    (out / "density.json").write_text(json.dumps(wishes))

    def going_on(given, **how):
        asked.append((given.log_density.__name__, how))

    monkeypatch.setattr("tiltflow.fitting.posterior.run.posterior", going_on)
    monkeypatch.setattr("tiltflow.report.posterior_page.write_posterior_page", lambda run: run)
    assert run(line) == 3  # nothing has been drawn here
    assert "before ess reached" in capsys.readouterr().out
    name, how = asked[0]
    assert name == "log_density"
    assert (how["ess"], how["seconds"], how["seed"], how["out"]) == (900.0, 42.0, 3, out)
    assert run([*line[:3], "ess=600"]) == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["sample", "a"], "the draws of a are in a/draws.npz"),
        (["sample", "a", "--until", "ess=9", "--thin", "2"], "--thin does not go with a"),
        (["sample", "a", "--out", "rows.txt"], "expected a name that ends in"),
        (["diagnose", "a"], "a holds the posterior of a density"),
        (["quality", "a"], "a holds the posterior of a density"),
        (["likelihood", "a"], "a holds the posterior of a density"),
        (["score", "a", "rows.csv", "--out", "s.csv"], "a holds the posterior of a density"),
        (["outliers", "a", "rows.csv"], "a holds the posterior of a density"),
        (["fit", "digits", "--out", "a"], "a "),
    ],
)
def test_what_does_not_apply_is_told_in_a_line(line, words, folder, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
    folder("a")
    assert run(line) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert captured.out == ""


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
