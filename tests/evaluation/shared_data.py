"""Where real data lie that tests may use, and may do without."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("TILTFLOW_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def shared(name: str) -> Path:
    """The file, or the test is skipped; TILTFLOW_SHARED_DATA names another folder."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path
