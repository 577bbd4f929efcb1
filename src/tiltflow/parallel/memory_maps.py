"""What was compiled is let go of before a process has no memory maps left.

Every compiled program takes some tens of memory maps, of which Linux gives a process 65,530, and
JAX keeps a program for as long as its function, which is as long as the process. A process that
has learned and sampled models of very many shapes would die of a segmentation fault of the
compiler. What is let go of and asked for again is compiled again.
"""

from pathlib import Path

import jax

MAPS, MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
SHARE = 0.5  # of the maps there are, from which on programs are let go of


class _Left:
    """How many maps were left when programs were last let go of: others than those of programs."""

    maps = 0


def maps_in_use() -> int:
    """Memory maps of this process; 0 where they cannot be counted, as outside of Linux."""
    try:
        return MAPS.read_bytes().count(b"\n")
    except OSError:
        return 0


def let_go_if_many() -> bool:
    """Let go of all compiled programs if half of the maps there are is in use; whether it did so.

    Counting takes a millisecond or so: it is for between fits, stages and runs of chains. A
    process that has so many maps for other reasons is left alone until it has a quarter more.
    """
    if not (used := maps_in_use()):
        return False
    try:
        most = int(MOST.read_text())
    except (OSError, ValueError):
        return False
    if used < max(SHARE * most, _Left.maps + SHARE * most / 2):
        return False
    jax.clear_caches()
    _Left.maps = maps_in_use()
    return True
