"""Seconds of several programs, measured so that their ratios can be trusted.

A machine is never quite idle and its clock never quite steady. So the programs run in turn, in a
new random order in each round, and are compared within rounds: a ratio is the median, over
rounds, of the ratio in a round.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Program = Callable[[], Any]  # makes arrays; compiled beforehand


def interleaved(programs: Mapping[str, Program], *, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every program in each round, `[rounds]`, after one call that is not counted."""
    for program in programs.values():
        jax.block_until_ready(program())
    seconds = {name: np.zeros(rounds) for name in programs}
    generator = np.random.default_rng(0)
    names = list(programs)
    for turn in range(rounds):
        for name in generator.permutation(names):
            started = time.perf_counter()
            jax.block_until_ready(programs[name]())
            seconds[name][turn] = time.perf_counter() - started
    return seconds


def ratio(of: np.ndarray, to: np.ndarray) -> float:
    """The median, over rounds, of seconds `of` one program over seconds `to` another."""
    return float(np.median(of / to))
