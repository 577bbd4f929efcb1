"""Runs on disk: a folder that is there whole or not at all, written atomically."""

from tiltflow.runs.events import EventLog, read_events
from tiltflow.runs.store import RunStore

__all__ = ["EventLog", "RunStore", "read_events"]
