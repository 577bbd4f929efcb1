"""A process that was forked while JAX was at work has none of its threads, and waits for ever."""

import os
import sys

from tiltflow.errors import InputError

_state = {"begun": False, "forked": False}


def _before() -> None:
    """In the parent: whether it has begun to compute."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    begun = getattr(bridge, "backends_are_initialized", lambda: False)
    _state["begun"] = bool(begun())


def _in_child() -> None:
    _state["forked"] = _state["begun"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)


def refuse_forked() -> None:
    """Raises InputError in a process in which no program can run."""
    if _state["forked"]:
        raise InputError(
            "this process was forked from one in which JAX had begun to compute, and would wait "
            "for ever; expected one that starts afresh: use joblib's loky, or the start method "
            "spawn of multiprocessing"
        )
