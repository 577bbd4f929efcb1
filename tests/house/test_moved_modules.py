"""Names that the reference has told keep working, whatever room they are in now."""

import importlib
import sys

import pytest

import tiltflow


@pytest.mark.parametrize("former", sorted(tiltflow._MOVED))
def test_a_former_name_is_the_present_module(former, monkeypatch):
    monkeypatch.delitem(sys.modules, f"tiltflow.{former}", raising=False)
    present = importlib.import_module(f"tiltflow.{tiltflow._MOVED[former]}")
    with pytest.warns(DeprecationWarning, match=f"is {present.__name__} now"):
        assert importlib.import_module(f"tiltflow.{former}") is present
    assert present.__spec__.name == present.__name__


def test_other_names_are_missing_as_ever():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        importlib.import_module("tiltflow.nowhere")


@pytest.mark.parametrize("name", tiltflow.__all__)
def test_every_public_name_is_there(name):
    assert getattr(tiltflow, name) is not None
