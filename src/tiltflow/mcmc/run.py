"""Run chains: one compiled program for warm-up and sampling, in chunks, with news in between.

A chunk is a scan over transitions. Whether it adapts, and how many of its transitions count, are
traced, so that the same program serves warm-up, sampling and the odd chunk at the end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.mcmc import hmc, warmup

LogDensity = Callable[[Float[Array, "chains ..."]], Float[Array, " chains"]]
Summary = Callable[[Array, Array], Mapping[str, Array]]
News = Callable[[int, int, str, float, float, int], Any]


@dataclass(frozen=True, eq=False)
class Draws:
    """What the chains have drawn.

    Attributes:
        positions: `[chains, draws, *event]`, or None if they were not kept.
        summaries: `[chains, draws]` each.
        acceptance: mean Metropolis probability of the sampling phase.
        divergences: divergent transitions of the sampling phase, all chains together.
        step_size: common to all chains, fixed while sampling.
        num_leapfrogs: gradients of a transition.
        gradients: of each chain, in the sampling phase.
        final: where the chains ended.
    """

    positions: np.ndarray | None
    summaries: dict[str, np.ndarray]
    acceptance: float
    divergences: int
    step_size: float
    num_leapfrogs: int
    gradients: int
    final: hmc.HMCState


class _Chains(eqx.Module):
    """What a chunk hands to the next."""

    state: hmc.HMCState
    adaptation: warmup.DualAveraging


def sample(
    key: PRNGKeyArray,
    log_density: LogDensity,
    position: Float[Array, "chains ..."],
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
    on_chunk: News | None = None,
) -> Draws:
    """Adapt the step size for `num_warmup` transitions, then draw `num_draws` from each chain.

    Args:
        key: of everything random.
        log_density: of a batch of chains, up to a constant. A pytree of arrays, such as a bound
            method of an Equinox module, may change its arrays without recompiling.
        position: where the chains start, `[chains, *event]`.
        num_draws, num_warmup: transitions of each chain in the two phases.
        num_leapfrogs: gradients of a transition.
        target: mean acceptance that warm-up aims at.
        jitter: of each chain's step size, as a share of it.
        step_size: where warm-up starts.
        summary: scalars of each draw, from (position, log-density), each `[chains]`.
        chunk: transitions between two pieces of news.
        keep: whether positions are kept; otherwise memory does not grow with them.
        on_chunk: called as (done, total, phase, acceptance, step size, divergences), with phase
            `"warmup"` or `"sampling"`.

    Raises:
        InputError: counts below what makes sense, or a start of the wrong shape or not finite.
    """
    _check(position, num_draws, num_warmup, num_leapfrogs, chunk, step_size)
    traced = jnp.asarray(target), jnp.asarray(jitter)
    chains = _start(log_density, position, jnp.asarray(step_size))
    if not bool(jnp.all(jnp.isfinite(chains.state.log_density))):
        raise InputError(
            "the log-density is not finite at the start of some chains: start them elsewhere"
        )
    total, done, divergences, acceptance = num_warmup + num_draws, 0, 0, 0.0
    positions: list[np.ndarray] = []
    summaries: list[dict[str, np.ndarray]] = []
    for phase, transitions in (("warmup", num_warmup), ("sampling", num_draws)):
        adapting = phase == "warmup"
        for first in range(0, transitions, chunk):
            count = min(chunk, transitions - first)
            key, chunk_key = jr.split(key)
            chains, kept, accepted, diverged = _chunk(
                chains,
                log_density,
                chunk_key,
                jnp.asarray(adapting),
                jnp.asarray(count),
                traced,
                num_leapfrogs,
                summary,
                chunk,
                keep,
            )
            done += count
            if not adapting:
                acceptance += float(accepted) * count / num_draws
                divergences += int(diverged)
                if keep:
                    positions.append(np.asarray(kept[0])[:count])
                summaries.append({k: np.asarray(v)[:count] for k, v in kept[1].items()})
            if on_chunk is not None:
                size = warmup.step_size if adapting else warmup.final
                news = (float(accepted), float(size(chains.adaptation)), int(diverged))
                on_chunk(done, total, phase, *news)
    return Draws(
        positions=np.concatenate(positions).swapaxes(0, 1) if keep else None,
        summaries={
            name: np.concatenate([part[name] for part in summaries]).T for name in summaries[0]
        },
        acceptance=acceptance,
        divergences=divergences,
        step_size=float(warmup.final(chains.adaptation)),
        num_leapfrogs=num_leapfrogs,
        gradients=num_draws * num_leapfrogs,
        final=chains.state,
    )


class _ValueAndGrad(eqx.Module):
    """Log-density and gradient of a batch: one pass forward and one back."""

    log_density: LogDensity

    def __call__(self, position: Array) -> tuple[Array, Array]:
        value, pullback = jax.vjp(self.log_density, position)
        return value, pullback(jnp.ones_like(value))[0]


@eqx.filter_jit
def _start(log_density: LogDensity, position: Array, step_size: Array) -> _Chains:
    return _Chains(hmc.init(position, _ValueAndGrad(log_density)), warmup.init(step_size))


@eqx.filter_jit
def _chunk(
    chains: _Chains,
    log_density: LogDensity,
    key: PRNGKeyArray,
    adapting: Array,
    count: Array,
    traced: tuple[Array, Array],
    num_leapfrogs: int,
    summary: Summary | None,
    chunk: int,
    keep: bool,
) -> tuple[_Chains, tuple[Array | None, Mapping[str, Array]], Array, Array]:
    """`count` transitions, at most `chunk`; what they drew, mean acceptance, divergences."""
    target, jitter = traced
    value_and_grad = _ValueAndGrad(log_density)

    def transition(chains: _Chains, key: PRNGKeyArray) -> tuple[_Chains, tuple]:
        adaptation = chains.adaptation
        size = jnp.where(adapting, warmup.step_size(adaptation), warmup.final(adaptation))
        state, info = hmc.step(
            key, chains.state, value_and_grad, size, num_leapfrogs=num_leapfrogs, jitter=jitter
        )
        acceptance = jnp.mean(info.acceptance_rate)
        adapted = warmup.update(adaptation, acceptance, target)
        adaptation = jax.tree.map(
            lambda new, old: jnp.where(adapting, new, old), adapted, adaptation
        )
        scalars = {} if summary is None else summary(state.position, state.log_density)
        told = (state.position if keep else None, scalars, acceptance, jnp.sum(info.is_divergent))
        return _Chains(state, adaptation), told

    def skip(chains: _Chains, key: PRNGKeyArray) -> tuple[_Chains, tuple]:
        shapes = jax.eval_shape(transition, chains, key)[1]
        return chains, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def maybe(chains: _Chains, number_and_key: tuple) -> tuple[_Chains, tuple]:
        number, key = number_and_key
        return jax.lax.cond(number < count, transition, skip, chains, key)

    keys = jr.split(key, chunk)
    chains, (positions, scalars, acceptance, divergent) = jax.lax.scan(
        maybe, chains, (jnp.arange(chunk), keys)
    )
    return chains, (positions, scalars), jnp.sum(acceptance) / count, jnp.sum(divergent)


def _check(
    position: Array,
    num_draws: int,
    num_warmup: int,
    num_leapfrogs: int,
    chunk: int,
    step_size: float,
) -> None:
    counts = {
        "num_draws": (num_draws, 1),
        "num_warmup": (num_warmup, 0),
        "num_leapfrogs": (num_leapfrogs, 1),
        "chunk": (chunk, 1),
    }
    for name, (value, least) in counts.items():
        if value < least:
            raise InputError(f"{name} is {value}; expected at least {least}")
    if not step_size > 0:
        raise InputError(f"step_size is {step_size}; expected a positive number")
    if jnp.ndim(position) < 2:
        raise InputError(
            f"position has shape {jnp.shape(position)}; expected [chains, *event], such as "
            f"[64, dim]"
        )
    if not bool(jnp.all(jnp.isfinite(position))):
        raise InputError("position is not finite for some chains: start them elsewhere")
