"""`tiltflow.posterior`: a density in, draws, evidence and verdict out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.errors import InputError, check_seed
from tiltflow.fitting.posterior.budget import Budget, Tell, to_terminal
from tiltflow.fitting.posterior.concluded import concluded
from tiltflow.fitting.posterior.improvement import next_steps
from tiltflow.fitting.posterior.judgement import judge
from tiltflow.fitting.posterior.keeping import Keeper
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.plan import Asked, Sizes
from tiltflow.fitting.posterior.probe import probed
from tiltflow.fitting.posterior.result import Posterior
from tiltflow.fitting.posterior.stages import LONG, done
from tiltflow.fitting.posterior.starts import drawn
from tiltflow.fitting.posterior.state import State


def posterior(
    log_density: Callable[..., Any],
    parameters: Any = None,
    *,
    start: Any = None,
    data: Any = None,
    log_z_within: float = 0.02,
    draws: int = 4_000,
    seconds: float | None = 600.0,
    evaluations: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    tell: Tell = to_terminal,
) -> Posterior:
    """Draws of an unnormalised density of your own, its evidence, and a verdict on both.

    Args:
        log_density: in JAX, differentiable, in nats, up to a constant or not: of one example to a
            scalar, or of a batch to one number a row. It gets a dict of values by name, or these as
            keywords if its arguments are called so, or an array where there is one parameter
            without a name. If it is a pytree, its arrays are traced.
        parameters: a dict of kinds by name (`tiltflow.Real`, `Positive`, `Interval`, `Simplex`,
            `Ordered`, `Correlation`, `Angle`), one kind, or the number of real parameters.
        start: draws of a prior or rough ones, `[n, ...]`, in natural coordinates: an array, or a
            dict by name; or a dict of distributions of SciPy or NumPyro, one for each name, or a
            list of one for each component. None: descents from random starts say where to begin.
        data: handed to `log_density` as its last argument (first, if it takes names); its arrays
            are arguments of the compiled programs.
        log_z_within: half the width that the 95% interval of log Z may have, in nats.
        draws: in all, at least.
        seconds, evaluations: limits of the whole run; None: as long as it takes.
        out: a folder for the result (`Posterior.save`), and for the state of the run, which is
            written after each stage and every ten seconds: calling again with the same arguments
            goes on from there, or, where limits or wishes have grown, from the end.
        seed: of all random numbers.
        tell: called with a line of progress; by default it goes to a terminal.

    Returns:
        A `Posterior`: `print` it.

    Raises:
        InputError: a density, parameters or a start that cannot be used, and why.
    """
    check_seed(seed)
    if not log_z_within > 0:
        raise InputError(f"log_z_within is {log_z_within!r}; expected a positive number of nats")
    if not (isinstance(draws, int | np.integer) and draws >= 100):
        raise InputError(f"draws is {draws!r}; expected 100 or more")
    budget = Budget(seconds, evaluations, tell)
    known = Parameters.of(parameters, start)
    most = float("inf") if evaluations is None else evaluations
    sizes = Sizes.fitting(known.size, most)
    target = probed(log_density, known, data)
    rng = np.random.default_rng(seed)
    free = None if start is None else known.free(drawn(start, known, rng), rng, "start")
    asked = Asked(log_z_within=float(log_z_within), draws=int(draws), seed=int(seed))
    state = State(target, free, asked, budget, sizes)
    if out is None:
        return _carried_out(state, lambda state, urgent: None)
    with Keeper(Path(out)) as keeper:
        state = keeper.restored(state)
        found = _carried_out(state, keeper.offer)
        found.save(out)
    return found


def _carried_out(state: State, offer: Callable[[State, bool], None]) -> Posterior:
    """All stages that are to be done, until nothing is left to mend or to spend.

    `offer` is shown the state after each, and told whether a stage is finished.
    """
    found = None
    while state.todo:
        what, *how = state.todo.pop(0)
        if what == "judge":
            found = judge(state)
            state.trail.append(found.told(state.budget))
            state.todo = next_steps(state, found)
        elif what == "conclude":  # a run that was finished, and is called again
            found = judge(state)
        else:
            done(state, what, *how)
        offer(state, what not in LONG)
    assert found is not None
    return concluded(state, found)
