"""Which kernel suits a target: short tuned runs of the candidates decide.

Each candidate warms up, which compiles its program, and then makes some draws against the clock.
Those that come near the best go on, in turn, so that neither a few draws nor a busy moment
of the machine decides between them. The one with the most effective draws of its worst quantity,
a second or a gradient, is chosen.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Kernel, LogDensity
from tiltflow.mcmc.on_host import HostKernel
from tiltflow.mcmc.program import Summary
from tiltflow.mcmc.run import sample
from tiltflow.mcmc.stopping import Diagnose

NEAR = 0.6  # of the best: from here a candidate goes on
ROUNDS, LONGER = 2, 2  # of those that go on, and times the draws of the first


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
    kernel: Kernel | HostKernel
    step_size: float
    length: float
    evidence: list[dict[str, Any]]


def choose(
    key: PRNGKeyArray,
    log_density: LogDensity,
    position: Float[Array, "chains *event"],
    candidates: Mapping[str, Kernel | HostKernel],
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
        num_draws: of each candidate, against the clock; those near the best make 4 times as many
            more, in two turns.
        num_warmup: transitions that tune it, and compile its program.
        by: what decides. Seconds are what a user waits; gradients do not depend on the machine.
        on_candidate: told each row of the evidence, and again after a turn that changed it.

    Raises:
        InputError: no candidates, or none whose chains move; as `sample`.
    """
    if num_warmup < 1:
        raise InputError(
            f"num_warmup is {num_warmup}; expected 1 or more: warm-up compiles the program, which "
            f"must not count"
        )
    runs: dict[str, list[Draws]] = {}
    rows: dict[str, dict[str, Any]] = {}

    def go_on(name: str, start: Array, number: int, warmup: int, *tuning: float) -> None:
        draws = sample(
            key if warmup else jax.random.fold_in(key, len(runs[name])), log_density, start,
            kernel=candidates[name], num_draws=number, num_warmup=warmup, step_size=tuning[0],
            length=tuning[1], summary=summary, chunk=50,
        )  # fmt: skip
        runs.setdefault(name, []).append(draws)
        rows[name] = {"name": name, **_row(runs[name], diagnose)}
        if on_candidate is not None:
            on_candidate(rows[name])

    for name in candidates:
        go_on(name, position, num_draws, num_warmup, step_size, length)
    best = max((row[by] for row in rows.values()), default=0.0)
    if not best > 0:
        raise InputError(
            f"no kernel of {', '.join(candidates) or 'an empty list'} moves these chains: choose "
            f"one yourself, with a smaller step size"
        )
    near = [name for name, row in rows.items() if row[by] >= NEAR * best]
    for _ in range(ROUNDS if len(near) > 1 else 0):
        for name in near:
            last = runs[name][-1]
            tuned = last.step_size, float(last.tuning.length)
            go_on(name, last.final.position, LONGER * num_draws, 0, *tuned)
    chosen = rows[max(near, key=lambda name: rows[name][by])]
    return Choice(
        chosen["name"],
        candidates[chosen["name"]],
        chosen["step_size"],
        chosen["length"],
        list(rows.values()),
    )


def _row(runs: list[Draws], diagnose: Diagnose) -> dict[str, Any]:
    """What a candidate has shown in runs that went on from one another.

    A worst effective size that is not a number counts as 0.
    """
    chains, last = len(runs[0].energies), runs[-1]
    watched = np.concatenate([_watched(draws) for draws in runs], axis=1)
    moving = ~(np.ptp(watched, axis=(0, 1)) == 0)  # what is no number moves
    ess, rhat = diagnose(watched[..., moving]) if moving.any() else (0.0, math.nan)
    counted = ess if math.isfinite(ess) else 0.0
    seconds, gradients = (sum(getattr(d, name) for d in runs) for name in ("seconds", "gradients"))
    lengths = [draws.energies.shape[1] for draws in runs]
    return {
        "ess_per_second": counted / seconds,
        "ess_per_gradient": counted / (chains * gradients),
        "ess": ess,
        "rhat": rhat,
        "seconds": seconds,
        "gradients": chains * gradients,
        "acceptance": float(np.average([draws.acceptance for draws in runs], weights=lengths)),
        "step_size": last.step_size,
        "length": float(last.tuning.length),
        "divergences": sum(draws.divergences for draws in runs),
    }


def _watched(draws: Draws) -> np.ndarray:
    """Coordinates and summaries, `[chains, draws, quantities]`."""
    parts = [np.asarray(draws.positions), *draws.summaries.values()]
    return np.concatenate([part.reshape(*draws.energies.shape, -1) for part in parts], axis=2)
