"""Programs of a test compiled with all optimisations, where they run for longer than they compile.

The other tests do without (`conftest.py`): their programs run once or twice.
"""

from contextlib import contextmanager

import jax


@contextmanager
def optimised():
    """What is compiled in here is compiled well."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, False)
    try:
        yield
    finally:
        jax.config.update(name, before)
