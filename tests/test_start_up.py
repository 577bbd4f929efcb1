"""Nothing heavy is loaded before it is needed, by `import tiltflow` or by `tiltflow --help`."""

import json
import os
import statistics
import subprocess
import sys

import pytest

from tiltflow import __version__
from tiltflow.cli.main import run

HEAVY = (
    "jax", "numpy", "scipy", "sklearn", "matplotlib", "equinox", "optax", "blackjax", "pyarrow",
    "narwhals",
)  # fmt: skip
LONGEST = 0.2  # seconds


def loaded_by(code):
    """Which heavy modules a fresh interpreter has loaded after `code`."""
    listed = (
        f"import sys\n{code}\nprint(*(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", listed], capture_output=True, text=True, check=True
    )
    return done.stderr.split()


def seconds(code, times=5):
    """Processor time of a fresh interpreter, the median of some: other processes do not count."""

    def once():
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = os.times()
        return (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )

    return statistics.median(once() for _ in range(times))


@pytest.mark.parametrize(
    "code",
    [
        "import tiltflow; tiltflow.InputError; dir(tiltflow)",
        "from tiltflow.cli.main import run; run(['--help'])",
        "from tiltflow.cli.main import run; run(['fit', '--help'])",
        "from tiltflow.cli.main import run; run(['--version'])",
    ],
)
def test_nothing_heavy_is_loaded(code):
    assert loaded_by(code) == []


def test_what_is_used_is_loaded():
    assert "jax" in loaded_by("import tiltflow; tiltflow.TiltedModel")


@pytest.mark.skipif(os.name != "posix", reason="processor time of children is POSIX's")
def test_import_takes_less_than_a_fifth_of_a_second():
    bare = seconds("pass")
    assert seconds("import tiltflow") - bare < LONGEST
    assert seconds("import tiltflow; tiltflow.TiltedModel", times=1) - bare > LONGEST


def test_versions_and_devices_for_a_report_of_a_bug(capsys):
    assert run(["--version", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"tiltflow", "python", "platform", "devices", "jax", "jaxlib", "numpy"} <= set(told)
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "cpu" in told["devices"].lower()


def test_the_version_alone(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
