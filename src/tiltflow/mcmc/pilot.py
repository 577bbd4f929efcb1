"""Which kernel suits a target: short tuned runs of the candidates decide.

Each candidate warms up, which compiles its program, and then makes some draws against the clock.
The one with the most effective draws of its worst quantity, a second or a gradient, is chosen.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Kernel, LogDensity
from tiltflow.mcmc.program import Summary
from tiltflow.mcmc.run import sample
from tiltflow.mcmc.stopping import Diagnose


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of a pilot.

    Attributes:
        name: of the candidate chosen.
        kernel: itself.
        step_size, length: as it was tuned.
        evidence: a row for each candidate, in their order: `name`, `ess_per_second`,
            `ess_per_gradient`, `ess`, `rhat`, `seconds`, `gradients` (of all chains),
            `acceptance`, `step_size`, `length`, `divergences`; plain values.
    """

    name: str
    kernel: Kernel
    step_size: float
    length: float
    evidence: list[dict[str, Any]]


def choose(
    key: PRNGKeyArray,
    log_density: LogDensity,
    position: Float[Array, "chains *event"],
    candidates: Mapping[str, Kernel],
    *,
    diagnose: Diagnose,
    num_draws: int = 150,
    num_warmup: int = 100,
    step_size: float = 0.1,
    length: float = 1.5,
    summary: Summary | None = None,
    by: Literal["ess_per_second", "ess_per_gradient"] = "ess_per_second",
    on_candidate: Callable[[dict[str, Any]], None] | None = None,
) -> Choice:
    """Run every candidate from the same start, with the same key, and choose.

    Args:
        key, log_density, position, step_size, length, summary: as in `sample`.
        candidates: kernels by name.
        diagnose: the worst bulk effective size and R-hat of draws, coordinates and summaries.
        num_draws: of each candidate, against the clock.
        num_warmup: transitions that tune it, and compile its program.
        by: what decides. Seconds are what a user waits; gradients do not depend on the machine.
        on_candidate: told each row of the evidence.

    Raises:
        InputError: no candidates, or none whose chains move; as `sample`.
    """
    if num_warmup < 1:
        raise InputError(
            f"num_warmup is {num_warmup}; expected 1 or more: warm-up compiles the program, which "
            f"must not count"
        )
    evidence = []
    for name, kernel in candidates.items():
        draws = sample(
            key, log_density, position, kernel=kernel, num_draws=num_draws, num_warmup=num_warmup,
            step_size=step_size, length=length, summary=summary, chunk=50,
        )  # fmt: skip
        row = {"name": name, **_row(draws, diagnose)}
        evidence.append(row)
        if on_candidate is not None:
            on_candidate(row)
    best = max(evidence, key=lambda row: row[by], default=None)
    if best is None or not best[by] > 0:
        raise InputError(
            f"no kernel of {', '.join(candidates) or 'an empty list'} moves these chains: choose "
            f"one yourself, with a smaller step size"
        )
    return Choice(
        best["name"], candidates[best["name"]], best["step_size"], best["length"], evidence
    )


def _row(draws: Draws, diagnose: Diagnose) -> dict[str, Any]:
    """What a candidate has shown; a worst effective size that is not a number counts as 0."""
    chains, number = draws.energies.shape
    parts = [np.asarray(draws.positions), *draws.summaries.values()]
    watched = np.concatenate([part.reshape(chains, number, -1) for part in parts], axis=2)
    moving = np.ptp(watched, axis=(0, 1)) > 0
    ess, rhat = diagnose(watched[..., moving]) if moving.any() else (0.0, math.nan)
    counted = ess if math.isfinite(ess) else 0.0
    return {
        "ess_per_second": counted / draws.seconds,
        "ess_per_gradient": counted / (chains * draws.gradients),
        "ess": ess,
        "rhat": rhat,
        "seconds": draws.seconds,
        "gradients": chains * draws.gradients,
        "acceptance": draws.acceptance,
        "step_size": draws.step_size,
        "length": float(draws.tuning.length),
        "divergences": draws.divergences,
    }
