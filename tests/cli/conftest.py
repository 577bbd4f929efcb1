"""One small run of `tiltflow fit digits`, made once for all tests that look at one."""

from contextlib import contextmanager

import pytest
from small_run import QUICK

from tiltflow.cli.main import run
from tiltflow.report import figures


@contextmanager
def drawn_coarsely():
    """Figures are not what is tested here, and take a second each as users see them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "DPI", 60)
        yield


@pytest.fixture(autouse=True)
def coarse():
    with drawn_coarsely():
        yield


@pytest.fixture(scope="session")
def small_run(shared):
    """The folder and the exit status of a run that learns little, in seconds."""

    def make(folder):
        (folder / "runs").mkdir()
        with drawn_coarsely():
            status = run(["fit", "digits", "--out", str(folder / "runs" / "digits"), *QUICK])
        (folder / "status").write_text(str(status))

    found = shared.folder("digits", make)
    return found / "runs" / "digits", int((found / "status").read_text())
