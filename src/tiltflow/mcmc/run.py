"""Many transitions: one compiled program for warm-up and sampling, progress between its calls.

The program makes up to `chunk` transitions with the number to make, the step size and whether to
adapt it as traced arguments: it is compiled once for a log-density, and asking for other numbers
of draws, or for the same model with other weights, does not compile again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc import hmc, warmup
from tiltflow.mcmc.checks import checked_position, checked_settings, checked_start

Summary = Callable[
    [Float[Array, "chains *event"], Float[Array, " chains"]], dict[str, Float[Array, " chains"]]
]
OnChunk = Callable[[int, int, str, float, float, int], None]


@dataclass(frozen=True, eq=False)
class Draws:
    """What was sampled, after warm-up; arrays are NumPy's, on the host.

    Attributes:
        positions: `[chains, draws, *event]`, or None if they were not kept.
        summaries: by name, `[chains, draws]` each.
        energies: `|momentum|^2 / 2 - log_density` after each transition, `[chains, draws]`.
        acceptance: the mean Metropolis probability.
        divergences: how many of the chains * draws transitions were divergent.
        step_size: of the leapfrogs, before jitter.
        num_leapfrogs: gradients a transition.
        gradients: evaluations a chain spent on these draws.
        final: where the chains ended; its position starts another run.
    """

    positions: np.ndarray | None
    summaries: dict[str, np.ndarray]
    energies: np.ndarray
    acceptance: float
    divergences: int
    step_size: float
    num_leapfrogs: int
    gradients: int
    final: hmc.HMCState


def sample(
    key: PRNGKeyArray,
    log_density: hmc.LogDensity,
    position: Float[Array, "chains *event"],
    *,
    num_draws: int,
    num_warmup: int,
    num_leapfrogs: int = 8,
    target: float = 0.8,
    jitter: float = 0.2,
    step_size: float = 0.1,
    summary: Summary | None = None,
    chunk: int = 100,
    keep: bool = True,
    on_chunk: OnChunk | None = None,
) -> Draws:
    """Sample `log_density` with HMC, all chains sharing one adapted step size.

    The draws depend on `key`, not on `chunk`.

    Args:
        key: random key.
        log_density: `[chains, *event]` to `[chains]`, rows independent of one another. If it is a
            pytree (a method of an Equinox module, a `jax.tree_util.Partial`), other values in its
            arrays do not compile anew; a new lambda does.
        position: where the chains start.
        num_draws: transitions after warm-up; each is a draw.
        num_warmup: transitions that adapt the step size; not kept. 0: `step_size` as it is.
        num_leapfrogs: gradients a transition.
        target: the mean acceptance that warm-up aims at.
        jitter: relative half-width of the chains' random step sizes.
        step_size: the first one.
        summary: scalars to record with every draw, from its position and log-density, without
            another gradient: f is `log_density + |u|^2 / 2`.
        chunk: transitions a call of the compiled program; a chunk of positions is held on the
            device, all of them on the host.
        keep: whether positions are returned.
        on_chunk: called after each chunk with (transitions done and wanted in all, phase,
            mean acceptance of the chunk, step size, divergences of the phase so far); phase is
            "warmup" or "sampling".

    Raises:
        InputError: a setting out of range; positions that are not `[chains, *event]` of finite
            numbers; a log-density of the wrong shape, or not finite at a start; a summary that is
            not a dictionary of `[chains]`.
    """
    checked_settings(num_draws, num_warmup, num_leapfrogs, target, jitter, step_size, chunk)
    state = _start(log_density, checked_position(position))
    checked_start(state)
    carry = (state, warmup.init(step_size))
    scalars = {"target": jnp.asarray(target, float), "jitter": jnp.asarray(jitter, float)}

    def run(first: int, total: int, phase: str, sink: _Sink | None) -> tuple[float, int]:
        """The phase's `total` transitions, numbered from `first`; its acceptance, divergences."""
        nonlocal carry
        done, accepted, divergences = 0, 0.0, 0
        while done < total:
            count = min(chunk, total - done)
            carry, record, tally = _chunk(
                log_density, summary, key, carry, first + jnp.asarray(done), jnp.asarray(count),
                jnp.asarray(phase == "warmup"), **scalars,
                num_leapfrogs=num_leapfrogs, size=chunk, keep=keep,
            )  # fmt: skip
            if sink is not None:
                sink.write(done, count, record)
            done += count
            accepted += float(tally.acceptance)
            divergences += int(tally.divergences)
            if on_chunk is not None:
                mean = float(tally.acceptance) / count
                on_chunk(
                    first + done,
                    num_warmup + num_draws,
                    phase,
                    mean,
                    float(tally.step_size),
                    divergences,
                )
        return accepted / max(total, 1), divergences

    run(0, num_warmup, "warmup", None)
    sink = _Sink(num_draws)
    acceptance, divergences = run(num_warmup, num_draws, "sampling", sink)
    positions, summaries, energies = sink.arrays
    return Draws(
        positions=positions,
        summaries=summaries,
        energies=energies,
        acceptance=acceptance,
        divergences=divergences,
        step_size=float(warmup.final(carry[1])),
        num_leapfrogs=num_leapfrogs,
        gradients=num_draws * num_leapfrogs,
        final=carry[0],
    )


class _Tally(NamedTuple):
    """A chunk in three numbers: the sum of mean acceptances, divergences, the last step size."""

    acceptance: Array
    divergences: Array
    step_size: Array


class _Sink:
    """Host arrays `[chains, draws, ...]`, filled a chunk `[size, chains, ...]` at a time."""

    def __init__(self, draws: int) -> None:
        self.draws = draws
        self.arrays: Any = None

    def write(self, done: int, count: int, record: Any) -> None:
        """Keep the first `count` rows of `record` as draws from `done` on."""
        record = jax.tree.map(np.asarray, record)
        if self.arrays is None:
            self.arrays = jax.tree.map(self._empty, record)
        for array, rows in zip(jax.tree.leaves(self.arrays), jax.tree.leaves(record), strict=True):
            array[:, done : done + count] = np.swapaxes(rows[:count], 0, 1)

    def _empty(self, rows: np.ndarray) -> np.ndarray:
        return np.empty((rows.shape[1], self.draws, *rows.shape[2:]), rows.dtype)


@eqx.filter_jit
def _start(log_density, position):
    return hmc.init(position, hmc.value_and_gradient(log_density))


@eqx.filter_jit
def _chunk(
    log_density,
    summary,
    key,
    carry,
    first,
    count,
    adapting,
    *,
    target,
    jitter,
    num_leapfrogs: int,
    size: int,
    keep: bool,
):
    """Transitions `first` to `first + count - 1`; `count` is traced and at most `size`.

    Returns the carry, the record (positions, summaries, energies; each `[size, chains, ...]`, rows
    from `count` on unspecified) and the `_Tally`.
    """
    value_and_grad = hmc.value_and_gradient(log_density)

    def record_of(state: hmc.HMCState, energy: Array):
        position, log_density, _ = state
        summaries = {} if summary is None else summary(position, log_density)
        _check_summaries(summaries, position.shape[0])
        return (position if keep else None), summaries, energy

    def transition(index, loop):
        (state, averaging), record, tally = loop
        step_size = jnp.where(adapting, warmup.step_size(averaging), warmup.final(averaging))
        state, info = hmc.step(
            jax.random.fold_in(key, first + index), state, value_and_grad, step_size,
            num_leapfrogs=num_leapfrogs, jitter=jitter,
        )  # fmt: skip
        adapted = warmup.update(averaging, info.acceptance_rate, target)
        averaging = jax.tree.map(lambda new, old: jnp.where(adapting, new, old), adapted, averaging)
        record = jax.tree.map(
            lambda rows, row: rows.at[index].set(row), record, record_of(state, info.energy)
        )
        tally = _Tally(
            tally.acceptance + jnp.mean(info.acceptance_rate),
            tally.divergences + jnp.sum(info.is_divergent),
            step_size,
        )
        return (state, averaging), record, tally

    row = jax.eval_shape(record_of, carry[0], carry[0].log_density)
    record = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), row)
    zero = jnp.zeros_like(carry[0].log_density[0])
    tally = _Tally(zero, jnp.zeros((), int), jnp.zeros_like(carry[1].log_step))
    return jax.lax.fori_loop(0, count, transition, (carry, record, tally))


def _check_summaries(summaries: object, chains: int) -> None:
    ok = isinstance(summaries, dict) and all(
        jnp.shape(value) == (chains,) for value in summaries.values()
    )
    if not ok:
        shapes = jax.tree.map(jnp.shape, summaries)
        raise InputError(
            f"the summary returned {shapes}; expected a dictionary of arrays of shape ({chains},), "
            f"one number a chain"
        )
