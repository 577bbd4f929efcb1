"""Several processes, on one machine or many, that make the same numbers side by side.

Each runs the whole program with the same inputs; only what is spread (`devices.py`) is divided
among them. What could differ from one to the next, a clock or a signal, is agreed on here before
anything is decided by it. The first process alone writes and shows. If a process is lost, none of
the others can go on: each ends, and its watchdog (`watchdog.py`) says so in one line.
"""

import os
import subprocess
import sys
import traceback
from contextlib import contextmanager
from functools import cache
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tiltflow.errors import InputError
from tiltflow.parallel import watchdog
from tiltflow.parallel.devices import AXIS, mesh

HEARTBEAT = 60  # seconds without one, after which a process counts as lost
ARRIVAL = 300  # seconds until all processes have to be there
FAREWELL = 600  # seconds that one waits at the end, while the first writes
FAILED = 1  # status of a process that ends because another one did
SHARED = (0, 3, 130)  # statuses that all processes end with together
LOST = ("gloo", "nccl", "coordination", "heartbeat", "unavailable", "deadline_exceeded", "aborted")


def join(
    coordinator: str | None, processes: int | None, process_id: int | None, *, detect: bool = False
) -> None:
    """Become one of several processes; before anything touches a device.

    Args:
        coordinator: `HOST:PORT` of the first process, at which all meet.
        processes: how many there are.
        process_id: which of them this is, from 0.
        detect: whether all three are as JAX finds them in the environment of a cluster.

    Raises:
        InputError: numbers that do not fit, no such environment, or not all have come.
    """
    given = (coordinator, processes, process_id)
    _check(*given, detect=detect)
    try:
        with _quiet():
            jax.distributed.initialize(
                *given,
                initialization_timeout=ARRIVAL,
                heartbeat_timeout_seconds=HEARTBEAT,
                shutdown_timeout_seconds=FAREWELL,
            )
            _add_watchdog()
            anywhere(False)  # all are connected now
    except ValueError as error:
        raise InputError(
            f"no cluster is found in the environment ({error}): give --coordinator, --processes "
            f"and --process-id"
        ) from None
    except RuntimeError as error:
        raise InputError(
            f"the processes have not found one another ({error!s:.200}): start all of them, with "
            f"the same --coordinator and --processes"
        ) from None


def joined() -> bool:
    """Whether `join` was called; asks no device."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Whether there is another process."""
    return joined() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes and shows."""
    return not joined() or jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether it holds in any process; all have to ask."""
    if not several():
        return flag
    flags = np.zeros(jax.process_count(), np.uint8)
    flags[jax.process_index()] = flag
    return bool(_sum(flags).any())


def from_first(data: bytes) -> bytes:
    """What the first process has given; all have to ask, and what others give is not looked at."""
    if not several():
        return data
    data = data if is_first() else b""
    size = int.from_bytes(_sum(np.frombuffer(len(data).to_bytes(8), np.uint8)).tobytes())
    room = np.zeros(1 << max(size - 1, 0).bit_length(), np.uint8)  # few sizes, few programs
    room[: len(data)] = np.frombuffer(data, np.uint8)
    return _sum(room)[:size].tobytes()


def leave(status: int, *, alone: bool = False) -> None:
    """Before the end: return if the others end like this, too; otherwise end at once.

    A process that ends `alone`, or fails, must not wait for the others, who wait for it.
    """
    if several() and (alone or status not in SHARED):
        _end(status)


def fail(error: BaseException) -> NoReturn:
    """End because of an error that no one has expected, or because another process has ended."""
    if any(word in str(error).lower() for word in LOST):
        os.write(2, f"{watchdog.LOST}\n{' '.join(str(error).split())}\n".encode())
    else:
        traceback.print_exception(error)
    _end(FAILED)


def _end(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _check(
    coordinator: str | None, processes: int | None, process_id: int | None, *, detect: bool
) -> None:
    if detect:
        if any(given is not None for given in (coordinator, processes, process_id)):
            raise InputError("--distributed stands beside --coordinator; expected one of them")
        return
    if coordinator is None:
        raise InputError("no --coordinator; expected HOST:PORT of process 0, the same for all")
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator is {coordinator!r}; expected HOST:PORT of process 0")
    if processes is None or process_id is None or not 0 <= process_id < processes:
        raise InputError(
            f"--processes is {processes} and --process-id {process_id}; expected how many there "
            f"are, and a number from 0 to one less"
        )


def _add_watchdog() -> None:
    """What the runtime writes to standard error goes through the watchdog, our own words do not."""
    sys.stderr.flush()
    own = os.dup(2)
    told = subprocess.Popen(
        [sys.executable, "-I", "-S", watchdog.__file__, str(jax.process_index()),
         str(jax.process_count())],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=own, start_new_session=True,
    )  # fmt: skip
    assert told.stdin is not None
    os.dup2(told.stdin.fileno(), 2)
    told.stdin.close()
    told.returncode = 0  # it outlives us, and nobody waits for it
    sys.stderr = open(  # noqa: SIM115 - ours until the end
        own, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


@contextmanager
def _quiet():
    """Without what the runtime prints on standard output when it connects."""
    sys.stdout.flush()
    own, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)
        os.close(nowhere)


def _sum(values: np.ndarray) -> np.ndarray:
    """Of bytes, over all processes, modulo 256."""
    sharding = NamedSharding(mesh(), PartitionSpec(AXIS))
    own = np.asarray(values, np.uint8)[None]
    parts = [
        jax.device_put(own if device == jax.local_devices()[0] else np.zeros_like(own), device)
        for device in sharding.addressable_devices
    ]
    shape = (jax.device_count(), *values.shape)
    every = jax.make_array_from_single_device_arrays(shape, sharding, parts)
    return np.asarray(_program()(every))


@cache
def _program():
    whole = NamedSharding(mesh(), PartitionSpec())
    return jax.jit(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), out_shardings=whole)
