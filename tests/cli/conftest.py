"""One small run of `tiltflow fit digits`, made once for all tests of the command line."""

import pytest
from small_run import QUICK

from tiltflow.cli.main import run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """The folder and the exit status of a run that learns little, in seconds."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    status = run(["fit", "digits", "--out", str(folder), *QUICK, "--draws", "20"])
    return folder, status
