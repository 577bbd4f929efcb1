"""The exit statuses of the command line; 0 is that all went well."""

from collections.abc import Mapping
from typing import Any

MISTAKE = 2  # input that the user has to change
FAILED = 3  # a model, or chains, that are not to be trusted
INTERRUPTED = 130


def of_verdict(verdict: Mapping[str, Any]) -> int:
    """The status of a command that ends in `verdict`."""
    return FAILED if verdict["status"] == "failed" else 0
