"""Programs of a test compiled with all optimisations, where they run for longer than they compile.

The other tests do without (`conftest.py`): their programs run once or twice.
"""

import os
from contextlib import contextmanager

VARIABLE = "JAX_DISABLE_MOST_OPTIMIZATIONS"


@contextmanager
def optimised():
    """What is compiled in here is compiled well, here and in processes that are started."""
    import jax

    before, outside = jax.config.values[VARIABLE.lower()], os.environ[VARIABLE]
    jax.config.update(VARIABLE.lower(), False)
    os.environ[VARIABLE] = "0"
    try:
        yield
    finally:
        jax.config.update(VARIABLE.lower(), before)
        os.environ[VARIABLE] = outside
