"""What a run returns, and some of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tiltflow.mcmc.kernel import Tuning
from tiltflow.mcmc.program import Moments


@dataclass(frozen=True, eq=False)
class Draws:
    """What was sampled, after warm-up; arrays are NumPy's, on the host or mapped from a file.

    Attributes:
        positions: `[chains, draws, *event]`, or None if they were not kept.
        summaries: by name, `[chains, draws]` each.
        energies: the kernel's energy after each draw, `[chains, draws]`, in nats; of HMC
            `|momentum|^2 / 2 - log_density`.
        divergent: whether the transition that made a draw was divergent, `[chains, draws]`; it was
            refused, so the draw is where it started.
        replicas: f at all replicas of replica exchange, `[chains, draws, replicas]`, from beta = 0
            to beta = 1; None of other kernels.
        moments: of the positions, if these were not kept.
        acceptance: the mean Metropolis probability.
        divergences: how many of the chains * transitions were divergent.
        transitions: of sampling, of each chain; `thin` of them make a draw.
        gradients: evaluations a chain spent on these draws.
        tuning: step size, before jitter, and length of the transitions.
        final: the kernel's state where the chains ended; its position starts another run.
        seconds: that sampling took in this call, warm-up and its compilation left out.
        stopped: why it ended: `"draws"` (all there), `"ess"`, `"rhat"` or `"ess and rhat"`
            (targets reached), `"seconds"` (the limit), or `"interrupted"`.
        target: the acceptance that the kernel's warm-up aims at; None: it has none.
        is_biased: whether the kernel does not leave the target density invariant.
    """

    positions: np.ndarray | None
    summaries: dict[str, np.ndarray]
    energies: np.ndarray
    divergent: np.ndarray
    replicas: np.ndarray | None
    moments: Moments | None
    acceptance: float
    divergences: int
    transitions: int
    gradients: int
    tuning: Tuning
    final: Any
    seconds: float
    stopped: str
    target: float | None
    is_biased: bool

    @property
    def step_size(self) -> float:
        """Of the leapfrogs or proposals, before jitter."""
        return float(self.tuning.step_size)

    @property
    def num_leapfrogs(self) -> int:
        """Gradients a transition, on average."""
        return round(self.gradients / max(self.transitions, 1))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or a request to terminate ended the run."""
        return self.stopped == "interrupted"


def joined(first: Draws, second: Draws) -> Draws:
    """Draws of chains, and those of the same chains that went on; positions of both are kept."""
    assert first.positions is not None
    assert second.positions is not None
    transitions = first.transitions + second.transitions
    accepted = [d.acceptance * d.transitions for d in (first, second)]
    both = [first.replicas, second.replicas]
    return replace(
        second,
        positions=_end_to_end(first.positions, second.positions),
        summaries={
            name: _end_to_end(values, second.summaries[name])
            for name, values in first.summaries.items()
        },
        energies=_end_to_end(first.energies, second.energies),
        divergent=_end_to_end(first.divergent, second.divergent),
        replicas=None if any(x is None for x in both) else _end_to_end(*both),
        acceptance=sum(accepted) / max(transitions, 1),
        divergences=first.divergences + second.divergences,
        transitions=transitions,
        gradients=first.gradients + second.gradients,
        seconds=first.seconds + second.seconds,
    )


def _end_to_end(first: Any, second: Any) -> np.ndarray:
    return np.concatenate([np.asarray(first), np.asarray(second)], axis=1)


def over_chains(
    positions: Float[np.ndarray, "chains draws ..."], rows: int
) -> tuple[Float[np.ndarray, "rows ..."], Int[np.ndarray, " rows"]]:
    """So many of all draws, of each chain in turn and evenly over time, and the chain of each.

    Steps through all draws in one row would meet few of the chains, or each at a time of its own.
    """
    chains, draws = positions.shape[:2]
    row = np.arange(rows)
    chain = row * max(1, chains // rows) % chains
    return positions[chain, row * draws // rows], chain
