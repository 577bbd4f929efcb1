"""How finely the tests of reports draw."""

import pytest

from tiltflow.report import figures


@pytest.fixture(autouse=True)
def coarse(request, monkeypatch):
    """Draw coarsely where sharpness is not what is tested: it takes half the time."""
    if "sharp" not in request.fixturenames:
        monkeypatch.setattr(figures, "DPI", 60)


@pytest.fixture
def sharp():
    """Draw as users see it."""
