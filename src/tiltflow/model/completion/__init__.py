"""Rows with gaps, filled by draws of what is missing given what is there, and their verdict."""

from tiltflow.model.completion.completer import Completer, Completion
from tiltflow.model.completion.verdict import verdict_on

__all__ = ["Completer", "Completion", "verdict_on"]
