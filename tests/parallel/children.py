"""Other processes of these tests."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import tiltflow

HERE = Path(__file__).parent


def free_port():
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def started(*words, devices=1, flags=()):
    """A Python process of `words` with so many devices, and other flags of the compiler."""
    own = os.environ.get("XLA_FLAGS", "")
    flags = " ".join([own, f"--xla_force_host_platform_device_count={devices}", *flags])
    env = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "TILTFLOW_CACHE": "off",
        "PYTHONPATH": str(Path(tiltflow.__file__).parents[1]),
        "PYTHONWARNINGS": "error,ignore:Error reading persistent compilation cache",
    }
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(child, seconds=300):
    """Its status, and what it has written on standard output and error."""
    try:
        out, error = child.communicate(timeout=seconds)
    finally:
        child.kill()
    return child.returncode, out, error
