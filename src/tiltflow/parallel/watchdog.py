"""Stands beside a process of several and says in one line what its runtime says in thirty.

When a process is lost, the runtime of each of the others writes a page of its own workings to
standard error and aborts: there is no way to catch that. So standard error of the runtime goes
through this little program, which outlives the process. It hands on what it is given, but holds
what is about lost processes back until the end, and then says what that means.
"""

import re
import signal
import sys
from collections.abc import Iterable, Iterator

LOST = "JAX distributed service detected fatal errors"
ABOUT = re.compile(rf"coordination_service|{LOST}|preemption_sync|rpc_helper|RecordAgent")


def told(lines: Iterable[str], me: int, processes: int) -> Iterator[str]:
    """What is to be shown, line by line."""
    held: list[str] = []
    for line in lines:
        if held or ABOUT.search(line):
            held.append(line)
        else:
            yield line
    text = "".join(held)
    if LOST not in text:
        yield from held
        return
    yield (
        f"tiltflow: {_who(text, me, processes)} has ended before its time, and no other can go on "
        f"without it; the last checkpoint is whole: start all again with --resume\n"
    )


def _who(text: str, me: int, processes: int) -> str:
    """Which process is lost, as far as it is known."""
    if found := re.search(r"unhealthy[^\n]*:\n(\d+)\n", text):
        return f"process {found[1]}"
    if processes == 2:
        return f"process {1 - me}"
    return "process 0" if "leader" in text else "another process"


def main() -> None:
    """Read standard input until the process has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    me, processes = map(int, sys.argv[1:])
    sys.stdin.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    for line in told(sys.stdin, me, processes):
        sys.stderr.write(line)
        sys.stderr.flush()


if __name__ == "__main__":
    main()
