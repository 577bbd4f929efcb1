"""Fits broken at the chains and at log Z, for `verdicts.py`: data, backbone and tilt are sound."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import jax.random as jr
from verdicts_broken import given, tilted_by
from verdicts_fits import Case, Outcome, fitted

from tiltflow.evaluation import chains
from tiltflow.fitting import judging
from tiltflow.mcmc.hamiltonian import HMC
from tiltflow.mcmc.independence import Independence
from tiltflow.mcmc.kernel import Info, Kernel
from tiltflow.mcmc.metropolis import decide
from tiltflow.mcmc.point import evaluate, tilt_of
from tiltflow.normalizer import from_values
from tiltflow.normalizer.bridge import bridge

# Chains ---------------------------------------------------------------------------------------


def _where(kept: jax.Array, old: Any, new: Any) -> Any:
    """The old state of the chains that are kept, the new one of others."""

    def chosen(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(kept.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(chosen, old, new)


class Wrong(HMC):
    """HMC with a fault, by its number; one program serves them all.

    0: none; 1: steps far too large, whatever warm-up says; 2: far too small; 3: every fourth chain
    stays where it is; 4: no chain goes where the first latent coordinate is large; 5: moves at
    random beside, without a Metropolis test.
    """

    fault: jax.Array | int = 0

    def init(self, log_density: Any, position: Any) -> Any:
        away = jnp.where(self.fault == 4, -jnp.abs(position), position)
        return super().init(log_density, away)

    def step(self, key: Any, log_density: Any, state: Any, tuning: Any) -> Any:
        size = jnp.where(self.fault == 1, 5.0, jnp.where(self.fault == 2, 1e-3, tuning.step_size))
        new, info = super().step(key, log_density, state, tuning._replace(step_size=size))
        stays = (self.fault == 3) & (jnp.arange(len(state.position)) % 4 == 0)
        crosses = (self.fault == 4) & (new.position[:, 0] > 0.3)
        new = _where(stays | crosses, state, new)
        noise = jnp.where(self.fault == 5, 0.35, 0.0)
        noise = noise * jr.normal(jr.fold_in(key, 1), state.position.shape)
        return super().init(log_density, new.position + noise), info


class Together(Independence):
    """All chains are handed the same random numbers."""

    def step(self, key: Any, log_density: Any, state: Any, tuning: Any) -> Any:
        draw_key, accept_key = jr.split(key)
        draw = jr.normal(draw_key, state.position.shape[1:])
        new = evaluate(log_density, jnp.broadcast_to(draw, state.position.shape))
        rise = tilt_of(new) - tilt_of(state)
        uniform = jnp.broadcast_to(jr.uniform(accept_key), rise.shape)
        decision = decide(uniform, rise, jnp.isfinite(new.log_density))
        kept = _where(decision.is_accepted, new, state)
        return kept, Info(*decision, energy=-kept.log_density, gradients=jnp.asarray(1))


def moved_by(kernel: Kernel) -> Outcome:
    """A fit whose final chains move by this kernel."""
    with mock.patch.object(chains, "kernel_of", return_value=kernel):
        return fitted(**given())


def wrong(fault: int) -> Outcome:
    return moved_by(Wrong(8, fault=jnp.asarray(fault)))


CHAINS = [
    Case("large steps", "chains", "steps far too large", lambda: wrong(1)),
    Case("tiny steps", "chains", "steps far too small", lambda: wrong(2)),
    Case("stuck", "chains", "a quarter of the chains do not move", lambda: wrong(3)),
    Case("one side", "chains", "all stay in one part of the model", lambda: wrong(4)),
    Case("no test", "chains", "moves without a Metropolis test", lambda: wrong(5)),
    Case("together", "chains", "one random key for all", lambda: moved_by(Together())),
]

# log Z ----------------------------------------------------------------------------------------


def with_step(name: str, change: Callable[..., Any]) -> Outcome:
    """A fit in which what a step of the judgement returns is changed."""
    before = getattr(judging, name)

    def changed(*given: Any, **named: Any) -> Any:
        return change(before, *given, **named)

    with mock.patch.object(judging, name, changed):
        return fitted(**given())


def shifted(before: Any, *given: Any) -> Any:
    """The estimate lacks a term of two thirds of a nat."""
    found = before(*given)
    return replace(found, **{n: getattr(found, n) + 0.67 for n in ("mean", "low", "high")})


def by_fitted_draws(before: Any, model: Any, draws: Any, f_q: Any, *keys: Any) -> Any:
    """Weights of draws that f was fitted to, where learning has pushed it down by half a nat."""
    return from_values(f_q - 0.5)


def by_few_draws(before: Any, model: Any, draws: Any, f_q: Any, *keys: Any) -> Any:
    """Weights of a dozen draws, and nothing else."""
    return from_values(f_q[:12])


def narrow(before: Any, model: Any, number: int, key: Any) -> Any:
    """Draws that are not the backbone's: narrower than N(0, I)."""
    u = 0.7 * jr.normal(key, (number, *model.backbone.latent_shape))
    return jax.lax.map(lambda u: model.tilt(model.backbone.coordinates(u)), u, batch_size=1_024)


def stale(before: Any, model: Any, draws: Any, f_q: Any, *keys: Any) -> Any:
    """f of the chains is that of another tilt, and the bridge's own doubts are not heard."""
    return replace(bridge(f_q, 0.5 * draws.summaries["f"]), holds=True)


LOG_Z = [
    Case("constant", "log Z", "f + 3,000,000 in float32", lambda: tilted_by("constant")),
    Case("dozen", "log Z", "a dozen draws", lambda: with_step("_log_z", by_few_draws)),
    Case("shifted", "log Z", "off by 0.67 nats", lambda: with_step("_log_z", shifted)),
    Case("fitted draws", "log Z", "draws that f was fitted to",
         lambda: with_step("_log_z", by_fitted_draws)),
    Case("narrow draws", "log Z", "draws that are not the backbone's",
         lambda: with_step("exact_f", narrow)),
    Case("stale", "log Z", "f of the chains is of another tilt",
         lambda: with_step("_log_z", stale)),
]  # fmt: skip
