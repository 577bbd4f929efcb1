"""The latent chains of a tilted model: kept in memory or streamed, watched, piloted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.diagnostics.convergence import worst
from tiltflow.errors import InputError
from tiltflow.mcmc import catalogue
from tiltflow.mcmc.draws import Draws
from tiltflow.mcmc.kernel import Kernel
from tiltflow.mcmc.on_host import HostKernel
from tiltflow.mcmc.pilot import Choice, choose
from tiltflow.mcmc.program import Summary
from tiltflow.mcmc.run import sample
from tiltflow.model.exact import exact_points
from tiltflow.model.independent import ENOUGH
from tiltflow.model.kernels import kernel_of, suited_kernel
from tiltflow.model.tilted import TiltedModel
from tiltflow.runs.draws import DrawsFolder, load_draws

PILOT = 2  # folded into the seed; the numbers below are those of its split
Push = Callable[[np.ndarray], np.ndarray]
"""Latent points `[..., *latent_shape]` to data `[..., *data_shape]`."""


def run(
    model: TiltedModel,
    push: Push,
    chains: int,
    draws: int,
    *,
    kernel: Kernel | HostKernel,
    step_size: float,
    warmup: int = 200,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    **settings: Any,
) -> tuple[np.ndarray, Draws]:
    """Run latent chains from fresh draws of the backbone, and push them to data.

    Args:
        model: whose latent density is sampled.
        push: of the draws to data units.
        chains, draws, warmup, seed, folder, resume: as in `FittedModel.sample`.
        kernel: how chains move.
        step_size: the first one.
        about: plain values stored in the folder.
        settings: others of `mcmc.sample`: `thin`, `until`, `length`, `chunk`, `on_chunk`,
            `interruptible`.

    Returns:
        x, `[chains, draws, *data_shape]` in data units, and the latent draws; with a folder both
        are mapped from its files.

    Raises:
        InputError: as `mcmc.sample`, and for a folder that is taken or holds another run.
    """
    if resume and folder is None:
        raise InputError("resume is set without a folder; expected the folder to resume")
    if isinstance(kernel, HostKernel):
        warmup = min(warmup, ENOUGH)
    key, start = _start(model, chains, seed)
    sink = None
    if folder is not None:
        sink = DrawsFolder(
            folder,
            resume=resume,
            derive=lambda chunk: {"x": push(chunk["positions"])},
            about=about,
        )
    looked_at = any(settings.get(name) is not None for name in ("until", "on_chunk"))
    latent = sample(
        key,
        model.latent_log_densities,
        start,
        num_draws=draws,
        num_warmup=warmup,
        kernel=kernel,
        step_size=step_size,
        summary=summary_of(model),
        sink=sink,
        diagnose=worst if looked_at else None,
        **settings,
    )
    if not latent.energies.shape[1]:  # the time was over before the first
        return np.zeros((chains, 0, *model.backbone.data_shape), np.float32), latent
    if sink is not None:
        return load_draws(sink.path).arrays["x"], latent
    return push(np.asarray(latent.positions)), latent


def pilot(
    model: TiltedModel,
    chains: int,
    *,
    step_size: float,
    leapfrogs: int,
    seed: int = 0,
    on_candidate: Callable[[dict[str, Any]], None] | None = None,
) -> Choice:
    """Which kernel of the catalogue suits this model, from as many chains as are to be run."""
    _, start = _start(model, chains, seed)
    suited = suited_kernel(model)
    candidates: dict[str, Kernel | HostKernel] = {**catalogue.candidates(leapfrogs)}
    if suited not in (*candidates, "hmc"):
        candidates[suited] = kernel_of(model, suited, leapfrogs)
    return choose(
        jr.fold_in(jr.key(seed), PILOT),
        model.latent_log_densities,
        start,
        candidates,
        diagnose=worst,
        step_size=step_size,
        summary=summary_of(model),
        on_candidate=on_candidate,
    )


def chain_summary(position: jax.Array, log_density: jax.Array) -> dict[str, jax.Array]:
    """f and |u|^2 of each chain, from what a transition has computed anyway."""
    squares = jnp.sum(position.reshape(len(position), -1) ** 2, axis=1)
    return {"f": log_density + 0.5 * squares, "norm": squares}


class _WithExcess(eqx.Module):
    """`chain_summary` where the log-density has more in it than f and N(0, I)."""

    model: TiltedModel

    def __call__(self, position: jax.Array, log_density: jax.Array) -> dict[str, jax.Array]:
        """f, computed anew, and |u|^2."""
        found = chain_summary(position, log_density)
        push = self.model.backbone.coordinates
        return found | {"f": jax.vmap(lambda u: self.model.tilt(push(u)))(position)}


def summary_of(model: TiltedModel) -> Summary:
    """What is recorded of chains of `model`: f and |u|^2."""
    return chain_summary if model.backbone.is_normal else _WithExcess(model)


def _start(model: TiltedModel, chains: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """The key of the chains, and exact draws of the backbone's noise."""
    start_key, key = jr.split(jr.key(seed))
    return key, exact_points(model.backbone, start_key, chains)
