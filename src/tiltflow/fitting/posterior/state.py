"""Where a run is: all that has been found, and the stages that are to be done next.

Whatever is random in a stage follows from the seed and from how many stages have asked before, so
that a run which is gone on with draws what it would have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.chains import Chains
from tiltflow.fitting.posterior.plan import Asked, Sizes, Step, first_steps
from tiltflow.fitting.posterior.probe import Roughness
from tiltflow.fitting.posterior.proposal import Scored
from tiltflow.fitting.posterior.starts import Bases
from tiltflow.fitting.posterior.target import Target
from tiltflow.fitting.posterior.tempering import Population, Rung


@dataclass
class State:
    """A run of `tiltflow.posterior`.

    Attributes:
        target: placed and over a reference, once it has been looked at.
        free: rows of free numbers to start from, or None.
        asked, budget, sizes: what is wanted, what may be spent, how large everything is.
        todo: stages to be done, the next one first.
        asked_for: how many streams of random numbers have been taken.
        bases: where temperings begin.
        rung: of the tempering that goes on.
        populations: that have arrived.
        cold, hot: particles beyond the target: where the density is higher, or lower, than typical.
        ends: of the ascents of the search, `[n, dim]`, and log-densities there; None: no search.
        tried: starts of ascents, those of a race included.
        chains: under the newest proposal.
        exact: draws of that proposal.
        rough: how rough the density is.
        nan, nan_of: share of starts at which it is not a number, and what tells them.
        effort: how many times more is drawn, since chains have disagreed.
        rounds: how many times the verdict was to be mended.
        refits, overlaps: of the proposal, and its overlap with the chains before each.
        unfinished: what had to be left out.
        helped: what was tried beyond the first plan.
        trail: what each verdict was, in plain values: evaluations, seconds, log Z and its status.
    """

    target: Target
    free: np.ndarray | None
    asked: Asked
    budget: Budget
    sizes: Sizes
    todo: list[Step] = field(default_factory=first_steps)
    asked_for: int = 0
    bases: Bases | None = None
    rung: Rung | None = None
    populations: list[Population] = field(default_factory=list)
    cold: list[np.ndarray] = field(default_factory=list)
    hot: list[np.ndarray] = field(default_factory=list)
    ends: tuple[np.ndarray, np.ndarray] | None = None
    tried: int = 0
    chains: Chains | None = None
    exact: list[Scored] = field(default_factory=list)
    rough: Roughness | None = None
    nan: float = 0.0
    nan_of: str = ""
    effort: int = 1
    rounds: int = 0
    refits: int = 0
    overlaps: list[float] = field(default_factory=list)
    unfinished: str = ""
    helped: list[str] = field(default_factory=list)
    trail: list[dict[str, Any]] = field(default_factory=list)

    def rng(self) -> np.random.Generator:
        """A stream of its own for whoever asks."""
        self.asked_for += 1
        return np.random.default_rng((self.asked.seed, self.asked_for))

    def key(self) -> PRNGKeyArray:
        """The same for programs."""
        self.asked_for += 1
        return jax.random.fold_in(jax.random.key(self.asked.seed), self.asked_for)

    @property
    def reference(self) -> float:
        """What the target is taken over."""
        return float(self.target.reference)

    @property
    def drawn(self) -> int:
        """Draws of all chains."""
        return 0 if self.chains is None else self.chains.draws * len(self.chains.z)

    @property
    def matched(self) -> int:
        """Exact draws of the proposal."""
        return sum(len(scored.f) for scored in self.exact)
