"""The list of faults fits the code, and its runner tells a fault that nobody notices."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from mutants import faults as listed
from mutants import run
from mutants.faults import Fault, mistakes, read

ROOT = Path(__file__).parents[2]
FEWEST, FEWEST_EACH = 60, 2


def test_every_fault_is_one_line_of_python_that_stands_there_once():
    assert mistakes(read(), ROOT) == []


def test_a_list_that_does_not_fit_is_told():
    """The power twin: each thing that can be wrong with an entry."""
    good = read()[0]
    for changes, words in (
        ({"old": "this is nowhere"}, "stands 0 times"),
        ({"old": "\n", "new": " "}, "expected another line"),
        ({"old": "e", "new": "f"}, "times in"),
        ({"new": "((("}, "is not Python"),
        ({"new": good.old}, "expected another line"),
        ({"tests": ()}, "and tests"),
        ({"file": "src/tiltflow/nowhere.py"}, "no such file"),
        ({"tests": ("tests/test_nowhere.py::test_it",)}, "there is no tests/test_nowhere.py"),
    ):
        found = mistakes([replace(good, **changes)], ROOT)
        assert any(words in sentence for sentence in found), (changes, found)
    assert "is there twice" in " ".join(mistakes([good, good], ROOT))


def rooms() -> set[str]:
    """The packages right below `tiltflow`."""
    return {path.parent.name for path in (ROOT / "src" / "tiltflow").glob("*/__init__.py")}


def check_spread(faults: list[Fault]) -> None:
    """At least 60, two of them in every package and two beside them."""
    assert len(faults) >= FEWEST
    parts = (Path(fault.file).relative_to("src/tiltflow").parts for fault in faults)
    number = Counter(part[0] if len(part) > 1 else "" for part in parts)
    assert {room for room in rooms() if number[room] < FEWEST_EACH} == set()


def test_there_are_faults_in_every_package():
    check_spread(read())
    with pytest.raises(AssertionError):  # power: one package without
        check_spread([fault for fault in read() if "/runs/" not in fault.file])


# A project of two functions, of which one has a test that looks -----------------------------------

CODE = """
def twice(x):
    return 2 * x


def half(x):
    return x / 2
"""
TESTS = """
import pytest
from tiny import half, twice

def test_twice():
    assert twice(3) == 6

def test_half_does_not_look():
    half(3)

def test_half_fails_anyway():
    assert half(3) == 7

@pytest.mark.skip
def test_skipped():
    assert twice(3) == 7
"""
FAULTS = {
    "noticed": ("return 2 * x", "return 3 * x", "test_twice"),
    "unnoticed": ("return x / 2", "return x / 3", "test_half_does_not_look"),
    "moved": ("return x / 4", "return x / 3", "test_twice"),
    "no Python": ("return 2 * x", "return 2 *", "test_twice"),
    "no name": ("return 2 * x", "return 2 * y", "test_twice"),
    "fails anyway": ("return x / 2", "return x / 3", "test_half_fails_anyway"),
    "no test": ("return 2 * x", "return 3 * x", "test_skipped"),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Its folder, and what is told of its faults by a run of the command line."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it needs none, and they take time
    root = tmp_path / "project"
    (root / "src" / "tiny").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "src" / "tiny" / "__init__.py").write_text(CODE)
    (root / "tests" / "test_tiny.py").write_text(TESTS)

    def told(*names, options=()):
        entries = [
            f"[[fault]]\nbreaks = {json.dumps(name)}\nfile = 'src/tiny/__init__.py'\n"
            f"old = {json.dumps(old)}\nnew = {json.dumps(new)}\n"
            f"tests = ['tests/test_tiny.py::{test}']\n"
            for name in names
            for old, new, test in [FAULTS[name]]
        ]
        (tmp_path / "faults.toml").write_text("".join(entries))
        files = ["--faults", str(tmp_path / "faults.toml"), "--json", str(tmp_path / "told.json")]
        status = run.main(["--root", str(root), *files, *options])
        found = json.loads((tmp_path / "told.json").read_text())
        return status, {one["fault"]["breaks"]: one["status"] for one in found}

    return root, told


def test_a_fault_that_nobody_notices_survives(project, capsys):
    root, told = project
    status, found = told(*FAULTS)
    assert found == {
        "noticed": run.KILLED,
        "unnoticed": run.SURVIVES,
        "moved": run.STALE,
        "no Python": run.INVALID,
        "no name": run.INVALID,
        "fails anyway": run.INVALID,
        "no test": run.INVALID,
    }
    assert status == 1
    out = capsys.readouterr().out
    assert "7 faults: 1 killed, 1 SURVIVES, 1 STALE, 4 INVALID" in out
    assert "+ return x / 3" in out
    assert (root / "src" / "tiny" / "__init__.py").read_text() == CODE
    assert told("noticed", options=("--jobs", "1"))[0] == 0


def test_a_runner_that_makes_no_fault_or_believes_any_test_would_be_seen(project, monkeypatch):
    """Power twins: without the fault its test passes; without the baseline a failing one kills."""
    _, told = project
    believed = told("fails anyway", options=("--no-baseline",))
    assert believed == (0, {"fails anyway": run.KILLED})
    monkeypatch.setattr(listed.Fault, "made", lambda fault, text: text)
    assert told("noticed") == (1, {"noticed": run.SURVIVES})


def test_what_is_chosen_by_words_and_listed(project, capsys):
    """And a fault whose tests do not end shows nothing."""
    _, told = project
    status, found = told(*FAULTS, options=("--only", "half unnoticed", "--no-baseline"))
    assert (status, found) == (1, {"unnoticed": run.SURVIVES})
    assert run.main(["--only", "witnesses among", "--list"]) == 0
    assert "witnesses" in capsys.readouterr().out
    assert run.main(["--only", "no fault has such words"]) == 2
    assert run.concluded(run.Ran(None, []), 5.0) == (run.INVALID, "its tests did not end in 5 s")
