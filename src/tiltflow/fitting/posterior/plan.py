"""What is asked of a run, how large its parts are, and the stages that it begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from tiltflow.errors import InputError, check_seed
from tiltflow.fitting.posterior.verdict import CONVERGED, LEAST_SIZE

FEWEST = 20_000  # evaluations of a limit that is kept: all stages at their smallest, and to judge
MOST_DRAWS = 2**20  # of all chains
SMALLEST = 5_000  # that stages are planned for, where seconds are the limit
UNITS = 60_000, 250_000, 1_500_000  # evaluations, below which everything is smaller

EACH_FREELY = 300  # evaluations for a particle of the first populations, without a gradient

Step = list[Any]
"""A stage to be done: its name and its arguments, plain values."""


@dataclass(frozen=True)
class Asked:
    """What the user wants.

    Attributes:
        log_z_within: half the width of log Z's interval.
        draws: in all.
        seed: of everything random.
        ess: effective draws of the worst quantity, `LEAST_SIZE` or more.
        rhat: of the worst quantity, `CONVERGED` or less.
    """

    log_z_within: float
    draws: int
    seed: int
    ess: float = LEAST_SIZE
    rhat: float = CONVERGED

    @classmethod
    def checked(cls, log_z_within: Any, draws: Any, seed: Any, ess: Any, rhat: Any) -> Asked:
        """What the user has said.

        Raises:
            InputError: what is no number, or out of range.
        """
        check_seed(seed)
        if not (isinstance(log_z_within, Real) and float(log_z_within) > 0):
            raise InputError(
                f"log_z_within is {log_z_within!r:.60}; expected a positive number of nats"
            )
        if not (isinstance(draws, Integral) and int(draws) >= 100):
            raise InputError(f"draws is {draws!r:.60}; expected an integer, 100 or more")
        if not (isinstance(ess, Real) and float(ess) < MOST_DRAWS):
            raise InputError(f"ess is {ess!r:.60}; expected a number below {MOST_DRAWS:,}")
        if not (isinstance(rhat, Real) and float(rhat) > 1):
            raise InputError(f"rhat is {rhat!r:.60}; expected a number above 1, such as 1.01")
        return cls(
            float(log_z_within), int(draws), int(seed),
            ess=max(float(ess), LEAST_SIZE), rhat=min(float(rhat), CONVERGED),
        )  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        particles: of the first two populations.
        starts: of descents.
        beyond: moves on a rung beyond the target.
        chains, block: how many, and their transitions in one go.
        warming: blocks whose draws are not kept.
        leapfrogs, jumps_to: of a trajectory; draws that compete in a jump.
        exact: draws of the proposal, at least.
        seeds: of the survey of modes.
        steps, blocks, width: of the flow: steps of its fit, blocks, units of its networks.
    """

    particles: int
    starts: int
    beyond: int
    chains: int
    block: int
    warming: int
    leapfrogs: int
    jumps_to: int
    exact: int
    seeds: int
    steps: int
    blocks: int
    width: int

    @property
    def survey(self) -> int:
        """Evaluations of a survey of modes, about."""
        return 60 * self.seeds

    @classmethod
    def fitting(cls, dim: int, evaluations: float, *, sloped: bool = True) -> Sizes:
        """Such that a first result takes about half of so many evaluations.

        `sloped` says whether there is a gradient; without one, moves take fewer evaluations.
        """
        if not sloped:
            found = cls.fitting(dim, evaluations)
            particles = int(np.clip(evaluations / EACH_FREELY, 32, 1_000))
            return replace(
                found, particles=particles, beyond=5, exact=2 * found.exact, jumps_to=2, warming=2
            )
        width = 32 if dim <= 12 else 64
        small, middle, large = UNITS
        if evaluations > large:
            return cls(1_000, 1_024, 100, 64, 32, 2, 8, 8, 8_192, 48, 1_000, 4, width)
        each = 2_400 if evaluations > small else 1_200  # both temperings have to arrive
        particles = int(np.clip(evaluations / each, 32, 1_000))
        if evaluations > middle:
            return cls(particles, 64, 30, 64, 32, 2, 6, 6, 4_096, 48, 600, 4, width)
        if evaluations > small:
            return cls(particles, 64, 20, 32, 32, 2, 4, 4, 2_048, 32, 600, 4, width)
        starts = int(np.clip(evaluations / 800, 8, 64))
        return cls(particles, starts, 10, 16, 16, 1, 4, 4, 512, 16, 400, 4, width)


def first_steps() -> list[Step]:
    """What every run begins with."""
    return [
        ["look"],
        ["temper", "narrow", "diagonal", 1],
        ["temper", "wide", "dense", 1],
        ["bend"],
        ["settle"],
        ["search"],
        ["fit"],
        ["sample", 1],
        ["match"],
        ["judge"],
    ]
