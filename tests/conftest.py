"""Programs here are many and small: compiling them is most of what takes time.

They are compiled with few optimisations; `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` has them all.
They take memory maps, and after a file of tests the process lets go of them if it has many.
"""

import os

import pytest

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture(scope="module", autouse=True)
def _let_go_of_programs():
    yield
    from tiltflow.parallel.memory_maps import let_go_if_many

    let_go_if_many()
