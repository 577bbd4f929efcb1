"""Many transitions: one compiled program for warm-up and sampling, the host in charge between.

The host's loop makes a chunk, hands its draws to a sink, tells the news, and asks whether to stop:
all draws made, a target reached, the time over, or a signal heard.
"""

import math
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc import adaptation, program
from tiltflow.mcmc.checks import checked_position, checked_settings, checked_start
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.hamiltonian import HMC
from tiltflow.mcmc.identity import identity
from tiltflow.mcmc.interrupts import Interrupts
from tiltflow.mcmc.kernel import Kernel, LogDensity
from tiltflow.mcmc.length import LengthRule
from tiltflow.mcmc.on_host import HostKernel
from tiltflow.mcmc.program import DIVERGENT, ENERGIES, POSITIONS, Carry, Plan, Summary, Tally
from tiltflow.mcmc.progress import Clock, OnChunk, Progress, left
from tiltflow.mcmc.schedule import Schedule
from tiltflow.mcmc.sinks import Counts, Memory, Sink, restored
from tiltflow.mcmc.stopping import Diagnose, Look, Monitor, Until
from tiltflow.mcmc.tempering import REPLICAS
from tiltflow.parallel.forked import refuse_forked
from tiltflow.parallel.memory_maps import let_go_if_many
from tiltflow.parallel.processes import anywhere

LEAPFROGS = 8  # of HMC, if nobody says how many


def sample(
    key: PRNGKeyArray,
    log_density: LogDensity,
    position: Float[Array, "chains *event"],
    *,
    num_draws: int,
    num_warmup: int,
    kernel: Kernel | HostKernel | None = None,
    num_leapfrogs: int | None = None,
    target: float | None = None,
    jitter: float | None = None,
    step_size: float = 0.1,
    length: float = 1.5,
    length_rule: LengthRule | None = None,
    thin: int = 1,
    summary: Summary | None = None,
    keep: bool = True,
    sink: Sink | None = None,
    until: Until | None = None,
    diagnose: Diagnose | None = None,
    chunk: int = 100,
    on_chunk: OnChunk | None = None,
    interruptible: bool = False,
) -> Draws:
    """Sample `log_density`, all chains at once and sharing one adapted tuning.

    The draws depend on `key`, not on `chunk`. Numbers (of draws, of warm-up, the tuning, thinning,
    a kernel's own) and the values of a log-density's arrays do not compile anew.

    Args:
        key: random key.
        log_density: `[chains, *event]` to `[chains]`, rows independent of one another. If it is a
            pytree (a method of an Equinox module, a `jax.tree_util.Partial`), other values in its
            arrays do not compile anew; a new lambda does.
        position: where the chains start.
        num_draws: draws of each chain, at most.
        num_warmup: transitions that adapt the tuning; not kept. 0: it stays as it is.
        kernel: how chains move; HMC by default. One that moves them on the host makes draws that
            depend on `chunk`, too, records what it likes, and starts chains by itself.
        num_leapfrogs, target, jitter: of HMC, in place of a kernel; 8 leapfrogs by default.
        step_size, length: the first ones (`kernel.Tuning`).
        length_rule: how warm-up adapts the length; by default the kernel's own.
        thin: transitions a draw; the last of them is the draw.
        summary: scalars to record with every draw, from its position and log-density, without
            another gradient: f is `log_density + |u|^2 / 2`.
        keep: whether positions are recorded; if not, their running moments are.
        sink: where draws go; memory by default. `sinks.Nowhere()`: nothing is kept but moments.
            A sink that was resumed gives back the draws of the former run, too.
        until: targets to stop at before `num_draws`.
        diagnose: what targets are held against: draws `[chains, draws, quantities]` to the worst
            bulk effective size and R-hat. It sees coordinates, if positions are recorded, and
            summaries.
        chunk: transitions a call of the compiled program; a chunk of draws is held on the device.
        on_chunk: told the news after each chunk.
        interruptible: whether Ctrl-C, or a request to terminate, ends the run after its chunk and
            keeps what is there, and does not raise; a second one raises.

    Raises:
        InputError: a setting out of range; positions that are not `[chains, *event]` of finite
            numbers; a log-density of the wrong shape, or not finite at a start; a summary that is
            not a dictionary of `[chains]`; targets that nothing can be held against; a sink that
            is taken.
    """
    clock = Clock()
    refuse_forked()
    let_go_if_many()
    checked_settings(
        num_draws=num_draws, num_warmup=num_warmup, step_size=step_size, length=length,
        thin=thin, chunk=chunk,
    )  # fmt: skip
    kernel = _kernel(kernel, num_leapfrogs=num_leapfrogs, target=target, jitter=jitter)
    rule = kernel.length_rule if length_rule is None else length_rule
    position = checked_position(position)
    schedule = Schedule(num_warmup, num_draws, thin, chunk)
    monitor = _monitor(until, diagnose, len(position), watched=keep or summary is not None)
    tuning = jnp.asarray(step_size, float), jnp.asarray(length, float)
    if isinstance(kernel, HostKernel):
        if not keep:
            raise InputError("keep is False with a kernel on the host; expected True")
        carry = kernel.start(key, position)
    else:
        carry = program.start(kernel, log_density, position, *tuning, rule, not keep)
    checked_start(carry.state)

    sink = Memory(num_draws) if sink is None else sink
    counts = Counts()
    same = identity(
        key=key, kernel=kernel, log_density=log_density, position=position, keep=keep, thin=thin,
        num_warmup=num_warmup, step_size=float(step_size), length=float(length),
    )  # fmt: skip
    with closing(sink):
        if (saved := sink.open(same)) is not None:
            carry, counts = restored(carry, saved.carry), saved.counts
            if monitor is not None and counts.draws:
                monitor.replay(sink.arrays(), schedule.chunk_ends(counts.transitions))

        with Interrupts(active=interruptible) as interrupts:
            while not (stopped := _stopped(schedule, counts, until, monitor, clock, interrupts)):
                plan = schedule.next(counts.transitions)
                if not plan.adapting:
                    clock.mark_sampling()
                if isinstance(kernel, HostKernel):
                    carry, record, tally = kernel.advance(key, carry, plan)
                else:
                    carry, record, tally = program.advance(
                        kernel, log_density, summary, rule, key, carry,
                        jax.tree.map(jnp.asarray, plan), size=chunk, keep=keep,
                    )  # fmt: skip
                former, counts = counts, _counted(counts, schedule, plan, tally)
                new = counts.draws - former.draws
                rows = {name: np.asarray(values)[:new] for name, values in record.items()}
                sink.write(rows, carry, counts)
                if monitor is not None and new:
                    monitor.watch(rows, counts.draws)
                if on_chunk is not None:
                    on_chunk(_news(schedule, plan, counts, tally, monitor, clock))
        return _draws(kernel, sink, carry, counts, schedule, rule, stopped, clock)


def _kernel(kernel: Kernel | HostKernel | None, **settings: Any) -> Kernel | HostKernel:
    """The kernel, its numbers as arrays: they are traced, so others do not compile anew."""
    given = {name: value for name, value in settings.items() if value is not None}
    if kernel is None:
        checked_settings(**given)
        kernel = HMC(**{"num_leapfrogs": LEAPFROGS} | given)
    elif given:
        raise InputError(
            f"{min(given)} is given beside a kernel; expected one of them: set it in the kernel"
        )
    if isinstance(kernel, HostKernel):
        return kernel
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, float) else x, kernel)


def _monitor(
    until: Until | None, diagnose: Diagnose | None, chains: int, *, watched: bool
) -> Monitor | None:
    """What watches the draws, if it can."""
    until = until or Until()
    if diagnose is not None and watched:
        return Monitor(diagnose, chains, until)
    if until.targets:
        missing = "diagnose" if diagnose is None else "positions or a summary"
        raise InputError(
            f"the target {until.targets} cannot be held against anything; expected {missing}: "
            f"give it, or stop by seconds"
        )
    return None


def _stopped(
    schedule: Schedule,
    counts: Counts,
    until: Until | None,
    monitor: Monitor | None,
    clock: Clock,
    interrupts: Interrupts,
) -> str:
    """Why to stop now, as in `Draws`; empty to go on."""
    if counts.transitions >= schedule.total:
        return "draws"
    if until is not None and monitor is not None and until.reached(*monitor.look, counts.draws):
        return until.targets
    if anywhere(interrupts.heard):
        return "interrupted"
    if until is not None and until.seconds is not None:  # the same in all processes
        return "seconds" if anywhere(clock.seconds >= until.seconds) else ""
    return ""


def _counted(counts: Counts, schedule: Schedule, plan: Plan, tally: Tally) -> Counts:
    """The counts after a call; a phase begins with none of its own."""
    if plan.first == schedule.num_warmup:
        counts = Counts(transitions=plan.first)
    done = plan.first + plan.count
    return Counts(
        transitions=done,
        draws=schedule.draws(done),
        accepted=counts.accepted + float(tally.acceptance),
        divergences=counts.divergences + int(tally.divergences),
        gradients=counts.gradients + int(tally.gradients),
    )


def _news(
    schedule: Schedule,
    plan: Plan,
    counts: Counts,
    tally: Tally,
    monitor: Monitor | None,
    clock: Clock,
) -> Progress:
    rate = clock.rate(counts.transitions)
    look = Look() if monitor is None else monitor.look
    return Progress(
        done=counts.transitions,
        total=schedule.total,
        phase="warmup" if plan.adapting else "sampling",
        acceptance=float(tally.acceptance) / plan.count,
        step_size=float(tally.step_size),
        length=float(tally.length),
        divergences=counts.divergences,
        draws=counts.draws,
        rate=rate,
        seconds_left=left(schedule.total - counts.transitions, rate),
        ess=look.ess,
        rhat=look.rhat,
    )


def _draws(
    kernel: Kernel | HostKernel,
    sink: Sink,
    carry: Carry,
    counts: Counts,
    schedule: Schedule,
    rule: LengthRule,
    stopped: str,
    clock: Clock,
) -> Draws:
    """The result; of a run that has not come to sampling, one without draws."""
    arrays = dict(sink.arrays())
    sampled = schedule.sampled(counts.transitions)
    if not sampled:
        counts = Counts()
    chains = len(carry.state.position)
    return Draws(
        positions=arrays.pop(POSITIONS, None),
        energies=arrays.pop(ENERGIES, np.zeros((chains, 0))),
        divergent=arrays.pop(DIVERGENT, np.zeros((chains, 0), bool)),
        replicas=arrays.pop(REPLICAS, None),
        summaries=arrays,
        moments=carry.moments,
        acceptance=counts.accepted / sampled if sampled else math.nan,
        divergences=counts.divergences,
        transitions=sampled,
        gradients=counts.gradients,
        tuning=adaptation.tuning(carry.adaptation, False, rule),
        final=carry.state,
        seconds=clock.sampling_seconds,
        stopped=stopped,
        target=None if kernel.target is None else float(kernel.target),
        is_biased=kernel.is_biased,
    )
