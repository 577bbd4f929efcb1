"""Programs of a test compiled with all optimisations, where they run for longer than they compile.

The other tests do without (`conftest.py`): their programs run once or twice.
"""

import os
from contextlib import contextmanager

VARIABLE = "JAX_DISABLE_MOST_OPTIMIZATIONS"


@contextmanager
def optimised(well=True):
    """What is compiled in here is compiled well, here and in processes that are started.

    If not `well`, then it is not, amid others that are: a program that runs once.
    """
    import jax

    before, outside = jax.config.values[VARIABLE.lower()], os.environ[VARIABLE]
    jax.config.update(VARIABLE.lower(), not well)
    os.environ[VARIABLE] = "0" if well else "1"
    try:
        yield
    finally:
        jax.config.update(VARIABLE.lower(), before)
        os.environ[VARIABLE] = outside
