"""What recipes print, write and exit with, and the benchmark that runs them all."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from table import Claim, finish, parser, table

ROOT = Path(__file__).resolve().parents[2]

GOOD = Claim("S1", "error, nats", 0.5, 0.1, 0.2, larger_is_better=False)
BAD = Claim("S1", "gain, nats", None, 1.0, 2.0)
TOLD = Claim("S1", "of a neighbour", None, 7.0, None)

RECIPE = """
import sys
from table import Claim, finish, parser

arguments = parser("one claim").parse_args()
sys.exit(finish([Claim("S2", "gain, nats", 0.0, {value}, 1.0)], arguments, 3.0))
"""


def test_a_claim_passes_at_its_threshold_and_nan_never():
    assert GOOD.passes
    assert TOLD.passes
    assert not BAD.passes
    assert GOOD._replace(value=0.2).passes
    assert not GOOD._replace(value=math.nan).passes
    assert not BAD._replace(value=math.inf).passes


@pytest.mark.parametrize(("claims", "status"), [([GOOD, TOLD], 0), ([GOOD, BAD], 1)])
def test_the_exit_status_is_that_of_the_thresholds(claims, status, tmp_path, capsys):
    arguments = parser("words").parse_args(["--json", str(tmp_path / "found.json")])
    assert finish(claims, arguments, 1.26) == status
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["pass"] for row in rows] == [claim.passes for claim in claims]
    assert rows[0] == {
        "system": "S1", "claim": "error, nats", "baseline": 0.5, "value": 0.1, "threshold": 0.2,
        "pass": True, "seconds": 1.3,
    }  # fmt: skip
    assert ("NO" in capsys.readouterr().out) == bool(status)


def test_a_number_that_is_not_finite_is_null(tmp_path):
    arguments = parser("words").parse_args(["--json", str(tmp_path / "found.json")])
    assert finish([GOOD._replace(value=math.nan)], arguments, 1.0) == 1
    assert json.loads((tmp_path / "found.json").read_text())[0]["value"] is None


def test_columns_stand_below_one_another():
    head, *lines = table([GOOD, BAD]).splitlines()
    assert all(line.index("0.") >= head.index("baseline") for line in lines[:1])
    assert len({len(line) for line in (head, *lines)}) <= 2


@pytest.mark.parametrize(("value", "status"), [(2.0, 0), (0.5, 1), ("undefined", 1)])
def test_the_benchmark_runs_what_is_there(value, status, tmp_path):
    (tmp_path / "table.py").write_text((ROOT / "examples/systems/table.py").read_text())
    (tmp_path / "s02_two.py").write_text(RECIPE.format(value=value))
    told = subprocess.run(
        [
            sys.executable, str(ROOT / "benchmarks" / "systems.py"), "--folder", str(tmp_path),
            "--json", str(tmp_path / "all.json"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == status, told.stderr
    assert told.stdout.count("not there") == 18
    (one,) = json.loads((tmp_path / "all.json").read_text())
    assert one["system"] == "S2"
    assert one["pass"] == (status == 0)
    assert len(one["claims"]) == (value != "undefined")
