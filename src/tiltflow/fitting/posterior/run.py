"""`tiltflow.posterior`: a density in, draws, evidence and verdict out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.budget import Budget, Tell, silent, to_terminal
from tiltflow.fitting.posterior.concluded import concluded
from tiltflow.fitting.posterior.foreign import Foreign
from tiltflow.fitting.posterior.given import Given
from tiltflow.fitting.posterior.improvement import next_steps
from tiltflow.fitting.posterior.judgement import judge
from tiltflow.fitting.posterior.keeping import Keeper
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.plan import FEWEST, SMALLEST, Asked, Sizes
from tiltflow.fitting.posterior.probe import JAX, probed
from tiltflow.fitting.posterior.result import Posterior
from tiltflow.fitting.posterior.stages import LONG, done
from tiltflow.fitting.posterior.starts import checked, drawn
from tiltflow.fitting.posterior.state import State
from tiltflow.fitting.posterior.verdict import CONVERGED, LEAST_SIZE


def posterior(
    log_density: Callable[..., Any] | Given,
    parameters: Any = None,
    *,
    start: Any = None,
    data: Any = None,
    gradient: Callable[..., Any] | str | None = JAX,
    pool: Any = None,
    log_z_within: float = 0.02,
    draws: int = 4_000,
    ess: float = LEAST_SIZE,
    rhat: float = CONVERGED,
    seconds: float | None = 600.0,
    evaluations: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    tell: Tell | None = to_terminal,
) -> Posterior:
    """Draws of an unnormalised density of your own, its evidence, and a verdict on both.

    Args:
        log_density: in JAX, differentiable, in nats, up to a constant or not: of one example to a
            scalar, or of a batch to one number a row. It gets a dict of values by name, or these as
            keywords if its arguments are called so, or an array where there is one parameter
            without a name. If it is a pytree, its arrays are traced. Or a density with parameters
            and start, from `tiltflow.from_numpyro`.
        parameters: a dict of kinds by name (`tiltflow.Real`, `Positive`, `Interval`, `Simplex`,
            `Ordered`, `Correlation`, `Angle`), one kind, or the number of real parameters.
        start: draws of a prior or rough ones, `[n, ...]`, in natural coordinates: an array, or a
            dict by name; or a dict of distributions of SciPy or NumPyro, one for each name, or a
            list of one for each component. None: descents from random starts say where to begin.
        data: handed to `log_density` as its last argument (first, if it takes names); its arrays
            are arguments of the compiled programs.
        gradient: `"jax"`; or, for a density in NumPy, SciPy or compiled code, a function that takes
            what `log_density` takes and returns the derivatives, as an array or a dict by name; or
            None: it has none, and nothing that is done asks for it. The density then gets float64,
            one example at a time, or a batch if it can take one.
        pool: evaluates a density that is not JAX: an object with a `map`, such as one of
            `multiprocessing`; None: this process.
        log_z_within: half the width that the 95% interval of log Z may have, in nats.
        draws: in all, at least.
        ess: effective draws of the worst quantity, at least; not below 400.
        rhat: of the worst quantity, at most; not above 1.01.
        seconds, evaluations: limits of the whole run; None: as long as it takes.
        out: a folder for the result (`Posterior.save`), and for the state of the run, which is
            written after each stage and every ten seconds: calling again with the same arguments
            goes on from there, or, where limits or wishes have grown, from the end.
        seed: of all random numbers.
        tell: called with a line of progress; by default it goes to a terminal; None: nowhere.

    Returns:
        A `Posterior`: `print` it.

    Raises:
        InputError: a density, parameters or a start that cannot be used, and why.
    """
    asked = Asked.checked(log_z_within, draws, seed, ess, rhat)
    if isinstance(log_density, Given):
        parameters = log_density.parameters if parameters is None else parameters
        start = log_density.start if start is None else start
        data, gradient = log_density.data, log_density.gradient
        log_density = log_density.log_density
    budget = Budget(seconds, evaluations, tell or silent)
    if evaluations is not None and evaluations < FEWEST:
        raise InputError(f"evaluations is {evaluations:.0f}; expected {FEWEST:,} or more, or None")
    known = Parameters.of(parameters, start)
    most = float("inf") if evaluations is None else evaluations
    sizes = Sizes.fitting(known.size, most)
    target = probed(log_density, known, data, gradient, pool)
    foreign = target.foreign
    if foreign is not None:
        budget.counter = lambda: foreign.count
        if seconds is not None:
            most = min(most, max(0.5 * seconds / foreign.seconds, SMALLEST))
        sizes = Sizes.fitting(known.size, most, sloped=target.differentiable)
    rng = np.random.default_rng(seed)
    free = None
    if start is not None:
        free = checked(known.free(drawn(start, known, rng), rng, "start"), known)
    state = State(target, free, asked, budget, sizes)
    # Products on the host are small; a density that is not JAX may have larger ones of its own.
    threads = threadpool_limits(1) if foreign is None else nullcontext()
    with _told_in_a_line(foreign), threads:
        if out is None:
            return _carried_out(state, lambda state, urgent: None)
        with Keeper(Path(out)) as keeper:
            state = keeper.restored(state)
            found = _carried_out(state, keeper.offer)
            found.save(out)
        return found


@contextmanager
def _told_in_a_line(foreign: Foreign | None) -> Iterator[None]:
    """What a density that is called back raises comes out of a program as that program's failure.

    Raises:
        InputError: what the density has raised, in a line; Ctrl-C stays what it is.
    """
    try:
        yield
    except Exception:
        error = None if foreign is None else foreign.error
        if error is None:
            raise
        if isinstance(error, InputError | KeyboardInterrupt):
            raise error from None
        said = " ".join(str(error).split())
        raise InputError(
            f"the log-density failed: {type(error).__name__}: {said:.200}; return -inf where it "
            f"is 0"
        ) from None


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
