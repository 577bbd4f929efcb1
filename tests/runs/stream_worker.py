"""A streamed run in a process of its own, for tests that kill it or weigh its memory.

`python stream_worker.py FOLDER DRAWS CHUNK` streams, or resumes, draws of 64 chains of a
Gaussian and prints the peak memory of the process in MiB. With `-` for the folder the draws are
kept in memory.
"""

import re
import sys
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr

from tiltflow.mcmc import sample
from tiltflow.runs.draws import DrawsFolder

CHAINS, DIM = 64, 3


def log_density(x):
    return -0.5 * jnp.sum(x**2, axis=-1)


def norm(position, log_density):
    return {"norm": jnp.sum(position**2, axis=-1)}


def stream(folder, draws, chunk, **settings):
    """The run that every worker makes, or goes on with."""
    return sample(
        jr.key(0),
        log_density,
        jnp.zeros((CHAINS, DIM)),
        num_draws=draws,
        num_warmup=40,
        num_leapfrogs=3,
        chunk=chunk,
        summary=norm,
        sink=None if folder is None else DrawsFolder(folder, resume=True),
        **settings,
    )


if __name__ == "__main__":
    where = None if sys.argv[1] == "-" else Path(sys.argv[1])
    stream(where, int(sys.argv[2]), int(sys.argv[3]))
    if (status := Path("/proc/self/status")).exists():
        print(int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) / 1024)
