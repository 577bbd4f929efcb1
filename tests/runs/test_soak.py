"""Hours of work in flat memory. `TILTFLOW_SOAK` sets how many seconds; an hour by default.

TILTFLOW_SOAK=300 pytest -m slow -s tests/runs/test_soak.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SECONDS = float(os.environ.get("TILTFLOW_SOAK", "3600"))
WORKER = Path(__file__).with_name("soak_worker.py")
FLAT = 0.02

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read there"),
]


def growth(mib):
    """From the second fifth of the time to the last, as a share; the first fifth warms up."""
    fifths = np.array_split(np.asarray(mib), 5)
    return np.mean(fifths[-1]) / np.mean(fifths[1]) - 1


def weigh(task, folder, seconds):
    command = [sys.executable, str(WORKER), task, str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 600)
    assert done.returncode == 0, done.stderr
    mib = json.loads(done.stdout)
    assert len(mib) >= 10
    print(f"{task}: {mib[0]:.0f} to {mib[-1]:.0f} MiB in {seconds:.0f} s, {growth(mib):+.2%}")
    return mib


@pytest.mark.parametrize("task", ["learn", "stream"])
def test_memory_is_flat(task, tmp_path):
    assert abs(growth(weigh(task, tmp_path / task, SECONDS / 2))) <= FLAT


def test_a_leak_is_seen(tmp_path):
    """The power twin: a quarter of a MiB is kept of every stage."""
    assert growth(weigh("leak", tmp_path / "leak", max(30, SECONDS / 20))) > FLAT
