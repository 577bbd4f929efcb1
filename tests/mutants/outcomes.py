"""A pytest plugin that writes down, a line of JSON a test, what became of it.

The exit status alone does not say whether a test has failed or a module could not be imported.
"""

import json
import os

import pytest

FILE = "MUTANTS_OUTCOMES"
"""The variable of the environment with the path of the file."""
BROKEN = (NameError, ImportError, SyntaxError)
"""A fault that leads to these is no fault of meaning: any test would fail."""


def _tell(test: str, outcome: str, *, broken: bool = False) -> None:
    with open(os.environ[FILE], "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"test": test, "outcome": outcome, "broken": broken}) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Of each test: passed or skipped when it was called, or failed at any time."""
    report = yield
    if report.failed or (call.when == "call" and report.passed):
        broken = call.excinfo is not None and issubclass(call.excinfo.type, BROKEN)
        _tell(item.nodeid, report.outcome, broken=broken)
    return report


def pytest_collectreport(report):
    """A file that could not be imported."""
    if report.failed:
        _tell(report.nodeid, "failed", broken=True)
