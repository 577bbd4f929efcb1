"""A log-density from a file of the user's: `model.py:log_density`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.given import Given


def from_file(words: str) -> Given:
    """Run the file, and take from it the function and, if they are there, what it needs.

    Args:
        words: `FILE:FUNCTION`. Beside the function, `parameters`, `start`, `data` and `gradient`
            are read; if `start` is a function, it is called. If what FUNCTION names is a density
            with its parameters already, as `tiltflow.from_numpyro` makes it, that is taken.

    Raises:
        InputError: no such file, an error in it, or no such function.
    """
    place, colon, name = words.rpartition(":")
    path = Path(place)
    if not colon or not name.isidentifier():
        raise InputError(
            f"{words!r} names no function; expected a file and a function, as in "
            f"model.py:log_density"
        )
    if not path.is_file():
        raise InputError(f"{path} is no file; expected Python, as in model.py:{name}")
    specification = importlib.util.spec_from_file_location(f"_tiltflow_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise InputError(f"{path} is not Python; expected a file whose name ends in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    sys.path.insert(0, str(path.resolve().parent))  # what lies beside it can be imported
    try:
        specification.loader.exec_module(module)
        start = getattr(module, "start", None)
        start = start() if callable(start) else start
    except Exception as error:  # whatever the user's file raises
        said = " ".join(str(error).split())
        raise InputError(f"{path} failed: {type(error).__name__}: {said:.200}") from None
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(f"{path} has no {name!r}; it has {', '.join(there[:8]) or 'nothing'}")
    found = getattr(module, name)
    if isinstance(found, Given):
        return found
    if getattr(module, "parameters", None) is None and start is None:
        raise InputError(
            f"{path} defines no `parameters`; expected a dict of kinds, as in "
            f"parameters = {{'mu': tiltflow.Real(), 'tau': tiltflow.Positive()}}"
        )
    return Given(
        found,
        getattr(module, "parameters", None),
        start,
        getattr(module, "data", None),
        getattr(module, "gradient", "jax"),
    )
