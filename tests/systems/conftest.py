"""Recipes are scripts: they find their table beside them, and so do these tests."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "systems"
sys.path.insert(0, str(FOLDER))


@pytest.fixture(scope="session")
def recipe():
    """The module of a recipe, by the beginning of its name, such as "s17"."""

    def load(name):
        (path,) = FOLDER.glob(f"{name}_*.py")
        if path.stem not in sys.modules:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec
            assert spec.loader
            sys.modules[path.stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[path.stem])
        return sys.modules[path.stem]

    return load
