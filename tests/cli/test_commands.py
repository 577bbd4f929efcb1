"""Help, and mistakes: one line each, status 2, and nothing on disk has changed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tiltflow.cli.main import run
from tiltflow.cli.status import of_verdict


@pytest.mark.parametrize("command", [[], ["fit"], ["sample"], ["diagnose"], ["report"], ["info"]])
def test_help(command, capsys):
    assert run([*command, "--help"]) == 0
    assert "Usage: tiltflow" in capsys.readouterr().out


def test_a_failed_verdict_is_status_3_and_no_other_is():
    found = [of_verdict({"status": status}) for status in ("ok", "caution", "failed")]
    assert found == [0, 0, 3]


MISTAKES = {
    "no such file": (["fit", "absent.npy"], "absent.npy"),
    "no such data": (["fit", "diggits"], "digits"),
    "unknown option": (["fit", "digits", "--epochs", "3"], "--epochs"),
    "unknown command": (["train", "digits"], "train"),
    "no data": (["fit"], "DATA"),
    "seed is text": (["fit", "digits", "--seed", "x"], "seed"),
    "seed below 0": (["fit", "digits", "--seed", "-1"], "-1"),
    "seed too large": (["fit", "digits", "--seed", str(2**63)], "2^63"),
    "unknown learner": (["fit", "digits", "--learner", "magic"], "learner"),
    "unknown units": (["fit", "digits", "--units", "magic"], "units"),
    "odd particles": (["fit", "digits", "--particles", "7"], "7 particles"),
    "no draws": (["fit", "digits", "--draws", "0"], "0 draws"),
    "no steps": (["fit", "digits", "--tilt-steps", "0"], "steps is 0"),
    "sample from nothing": (["sample", "nowhere"], "nowhere is not a run"),
    "diagnose nothing": (["diagnose", "nowhere"], "nowhere is not a run"),
    "report on nothing": (["report", "nowhere"], "nowhere is not a run"),
    "info on nothing": (["info", "nowhere"], "nowhere is not a run"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(name, tmp_path, monkeypatch, capsys):
    arguments, words = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def write(path, name):
    """A file of the kind that `name` says is wrong."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    if name == "nan.npy":
        x[3, 1] = np.nan
        np.save(path, x)
    elif name == "infinite.npy":
        x[7, 0] = np.inf
        np.save(path, x)
    elif name == "constant.npy":
        x[:, 1] = 4.5
        np.save(path, x)
    elif name == "object.npy":
        np.save(path, np.array([{"a": 1}] * 30), allow_pickle=True)
    elif name == "one_row.npy":
        np.save(path, x[:1])
    elif name == "scalar.npy":
        np.save(path, np.float32(3))
    elif name == "five_axes.npy":
        np.save(path, rng.normal(size=(30, 2, 2, 2, 2)))
    elif name == "truncated.npy":
        np.save(path, x)
        path.write_bytes(path.read_bytes()[:-40])
    elif name == "several.npz":
        np.savez(path, a=x, b=x)
    elif name == "text.csv":
        path.write_text("a,b\n" + "1.5,2.5\n3.5,4.5\n" * 20 + "5.5,red\n")
    elif name == "ragged.csv":
        path.write_text("1,2\n3,4,5\n" * 20)
    elif name == "unknown.xlsx":
        path.write_bytes(b"PK")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan.npy", "NaN"),
        ("infinite.npy", "infinite"),
        ("constant.npy", "constant"),
        ("object.npy", "object"),
        ("one_row.npy", "1 row"),
        ("scalar.npy", "shape"),
        ("five_axes.npy", "shape"),
        ("truncated.npy", "truncated.npy"),
        ("several.npz", "--key"),
        ("text.csv", "red"),
        ("ragged.csv", "columns"),
        ("unknown.xlsx", ".xlsx"),
    ],
)
def test_bad_data_is_one_line_and_leaves_nothing(name, words, tmp_path, capsys):
    write(tmp_path / name, name)
    assert run(["fit", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert captured.out == ""
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_program_itself_exits_2_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from tiltflow.cli.main import main; main()", "fit", "absent.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tiltflow: absent.npy")
    assert done.stderr.count("\n") == 1


def test_an_encoding_that_lacks_a_sign_is_no_error(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 2)))
    done = subprocess.run(
        [sys.executable, "-c", "from tiltflow.cli.main import main; main()", "data", "inspect",
         "x.npy"],
        cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"rows" in done.stdout


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("printer", ["print", "Console().print"])
def test_the_status_is_that_of_the_command_when_nobody_reads_its_output(status, printer):
    """As behind `| head -1`; a command that did not go on would end with 0, or with 1."""
    code = (
        "from rich.console import Console\n"
        "from tiltflow.cli import main\n"
        "def command(*words, **how):\n"
        f"    for _ in range(3_000): {printer}('x')\n"
        f"    return {status}\n"
        "main.app = command\n"
        "main.main(['report'])\n"
    )
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **how) as program:
        program.stdout.close()
        assert program.wait() == status
        assert program.stderr.read() == b""
