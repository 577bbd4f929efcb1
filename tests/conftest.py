"""What every test needs: room in the process for one more compiled program.

Each compiled program takes several memory maps, of which the kernel grants a process 65,530; a
suite of a thousand programs comes near that, and the compiler then dies of a segmentation fault.
"""

from pathlib import Path

import jax
import pytest

MAPS = Path("/proc/self/maps")
MANY = 25_000


@pytest.fixture(scope="module", autouse=True)
def _room_for_programs():
    """Forget compiled programs between two files, where there are many."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
