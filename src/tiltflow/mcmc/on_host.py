"""Kernels that move chains on the host, a chunk of transitions a call.

Such as those whose proposals are dear to draw inside of a compiled program, and cheap to compare.
"""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.mcmc.length import FixedLength, LengthRule
from tiltflow.mcmc.program import Carry, Plan, Tally


class HostKernel(eqx.Module):
    """One way to move chains, which starts them itself and leaves their target invariant.

    What it draws depends on how many transitions a call makes.
    """

    @property
    def target(self) -> None:
        """No acceptance is aimed at."""
        return None

    @property
    def is_biased(self) -> bool:
        """It is not."""
        return False

    @property
    def length_rule(self) -> LengthRule:
        """There is nothing to adapt."""
        return FixedLength()

    @abc.abstractmethod
    def start(self, key: PRNGKeyArray, position: Float[Array, "chains *event"]) -> Carry:
        """Where as many chains begin."""

    @abc.abstractmethod
    def advance(
        self, key: PRNGKeyArray, carry: Carry, plan: Plan
    ) -> tuple[Carry, dict[str, np.ndarray], Tally]:
        """The transitions of `plan`; the record has its completed draws, `[draws, chains, ...]`."""
