"""Bits/dim, gain and chains on images after a stated time: the last parts of `gpu.py`.

Of the time of a set, 0.4 go to the Glow and 0.65, with those, to its tilt; then HMC with
the same settings runs on the latent density and, from the same start, on the same density in data
space. Both are looked at by the same quantities, f and projections of the coordinates, as in
Nijkamp et al. 2022 (arXiv 2006.06897, section 5): histograms of R-hat, and the autocorrelation.
Compiling counts as time, as it does for everybody. The gain is told by bridge sampling between
exact draws of the backbone and the latent chains, and by the witnesses as learning went on.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from gpu_pace import Enough, Paced, paced

from tiltflow.backbones import Flow
from tiltflow.data import Dataset, load
from tiltflow.diagnostics.convergence import autocorrelation, rhat
from tiltflow.evaluation.likelihood import bits_per_dim, likelihood, score
from tiltflow.fitting.recipes import begin_backbone, learn_backbone, specification, units_for
from tiltflow.fitting.settings import Settings, suited_glow
from tiltflow.learning import Rows, fit_backbone, fit_tilt
from tiltflow.learning.early_stopping import CHUNK, silent
from tiltflow.mcmc import HMC, Draws, sample
from tiltflow.mcmc.stopping import Until
from tiltflow.model.data_space import data_space_log_density, data_space_start
from tiltflow.model.latent_chains import chain_summary
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import bridge
from tiltflow.tilts import Tilt

Keep = Callable[[str, Any], None]
FLOW, TILT, LATENT, OUTSIDE = 0.4, 0.65, 0.8, 0.93  # of the time, when each ends
VALIDATION, TEST, DEQUANTISATIONS = 2_000, 2_000, 2
EXACT, TINY_EXACT = 50_000, 500
DRAWS, WARMUP, LEAPFROGS = 2_000, 50, 10
PROJECTIONS, LAGS = 64, 100
EDGES = (1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0)  # of the histograms of R-hat
LEAST = 10.0  # seconds of a set of chains
SIDE = 8  # of tiny images


def measure(keep: Keep, path: Path, *, until: float, tiny: bool) -> None:
    """All numbers of a set within its time, each kept as soon as it is known.

    Raises:
        InputError: files that cannot be read, or settings that do not suit the device.
    """
    began = time.monotonic()
    whole = until - began
    if tiny:
        whole = min(whole, 30.0)
    data = load(path)
    if data.note:
        keep("note", data.note)
    x = small(data.values) if tiny else np.asarray(data.values)
    known, held_out = parts(x, data, tiny)
    cut = len(known) - (VALIDATION // 10 if tiny else VALIDATION)
    keep("images", {"train": cut, "shape": list(x.shape[1:])})
    settings = settings_for(len(known), x.shape[1:], tiny)
    units = units_for(settings.model, known, integers=True, limits=(0, 255))
    train, val, test = (
        Rows(jnp.asarray(rows, jnp.uint8), units, integers=True)
        for rows in (known[:cut], known[cut:], held_out)
    )
    spec = specification(settings.model, units)
    flow = begin_backbone(spec, units, key=jr.key(0))
    assert isinstance(flow, Flow)
    flow = the_flow(keep, flow, train, val, settings, began + FLOW * whole)
    few = test.first(TEST)
    seconds = round(time.monotonic() - began, 1)
    tilt = spec.tilt(key=jr.key(1))
    plain = score(TiltedModel(flow, tilt), few, jr.key(2), DEQUANTISATIONS)
    bits = bits_per_dim(-float(plain.log_q.mean()), flow.dim)
    keep("backbone", {"bpd": bits, "seconds": seconds})
    tilt = the_tilt(keep, flow, tilt, train, val, settings, began + TILT * whole)
    model = TiltedModel(flow, tilt)
    seconds = round(time.monotonic() - began, 1)
    latent, outside = both_chains(keep, model, began, whole, tiny)
    if latent is not None:
        gained(keep, model, few, np.asarray(latent.summaries["f"]), seconds, tiny)
        look(keep, model, latent, outside)


def small(values: np.ndarray, rows: int = 3_000) -> np.ndarray:
    """Few images of 8 x 8, means of squares of the middle; the last rows, too."""
    half = rows // 2
    few = np.concatenate([values[:half], values[-half:]]) if len(values) > rows else values
    few = np.asarray(few, np.float32)
    side = few.shape[1] // SIDE
    edge = (few.shape[1] - side * SIDE) // 2
    few = few[:, edge : edge + side * SIDE, edge : edge + side * SIDE]
    cut = few.reshape(len(few), SIDE, side, SIDE, side, *few.shape[3:])
    return np.floor(cut.mean(axis=(2, 4)))


def parts(x: np.ndarray, data: Dataset, tiny: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is learned from, validation images at its end, and test images."""
    held_out = len(x) // 6 if tiny else max(data.test_rows, TEST)
    return x[:-held_out], x[-held_out:]


def settings_for(rows: int, shape: tuple[int, ...], tiny: bool) -> Settings:
    """Those of `fit --backbone glow` with batches for a large device; or tiny ones."""
    settings = suited_glow(rows, shape)
    tilt = replace(
        settings.tilt, steps=10**6, patience=10**6, fresh_every=0, watch=False,
        particles=4_096, moved_at_once=0, least_transitions=2, most_transitions=4,
    )  # fmt: skip
    backbone = replace(settings.backbone, batch=256, patience=10**6)
    if not tiny:
        return replace(settings, backbone=backbone, tilt=tilt)
    glow, conv = settings.model.glow, settings.model.conv
    model = replace(settings.model, glow=replace(glow, steps=2, width=8, scales=1))
    model = replace(model, conv=replace(conv, channels=4, width=16))
    backbone = replace(backbone, batch=32, val_rows=200)
    tilt = replace(
        tilt, rate=3e-3, check_every=1, particles=64, batch_data=64, batch_particles=32, bank=64,
        judge_rows=100, leapfrogs=2,
    )  # fmt: skip
    return replace(settings, model=model, backbone=backbone, tilt=tilt)


def the_flow(
    keep: Keep, flow: Flow, train: Rows, val: Rows, settings: Settings, until: float
) -> Flow:
    """The flow after as many steps as there is time for.

    Three chunks warm it up and tell how long one takes; then the rate falls along the rest.
    """
    warm = replace(settings.backbone, steps=3 * CHUNK, memory=0.97)
    pace = Paced()
    first = replace(settings, backbone=warm)
    begun, _ = learn_backbone(flow, train, val, first, key=jr.key(3), listen=silent, keeper=pace)
    assert isinstance(begun, Flow)
    speed = paced(pace, warm.batch)
    keep("flow", speed)
    rate = speed["steps_per_second"] or 0.0
    chunks = int(0.95 * (until - time.monotonic()) * rate / CHUNK)
    if chunks < 2:
        return begun
    memory = min(settings.backbone.memory, 1 - 20 / (chunks * CHUNK))
    long = replace(settings.backbone, steps=chunks * CHUNK, memory=memory)
    pace = Paced(until)
    try:
        begun, _ = fit_backbone(begun, train, val, long, key=jr.key(4), keeper=pace)
    except Enough:
        begun = eqx.combine(pace.state[1], begun)  # the best so far
    keep("flow", paced(pace, long.batch) | {"steps": (3 + chunks) * CHUNK})
    return begun


def the_tilt(
    keep: Keep, flow: Flow, tilt: Tilt, train: Rows, val: Rows, settings: Settings, until: float
) -> Tilt:
    """The tilt with the best held-out gain until the time is over, or one stage later."""
    pace = Paced(until)
    try:
        tilt, judgement, _ = fit_tilt(
            flow, tilt, train, val, settings.tilt, key=jr.key(5), keeper=pace
        )
    except Enough:
        _, _, kept, judgement, *_ = pace.state
        tilt = eqx.tree_at(lambda t: t.level, kept, kept.level + judgement.level)
    told = {"steps": pace.steps, "gain_val_by_witnesses": float(judgement.gain_val)}
    keep("tilt", paced(pace, settings.tilt.batch_data) | told)
    return tilt


def both_chains(
    keep: Keep, model: TiltedModel, began: float, whole: float, tiny: bool
) -> tuple[Draws | None, Draws | None]:
    """Chains of the latent space and of data space, from the same start."""
    assert isinstance(model.backbone, Flow)
    u = jr.normal(jr.key(6), (8 if tiny else 64, *model.backbone.latent_shape))
    kernel, made = HMC(num_leapfrogs=2 if tiny else LEAPFROGS), []
    for name, density, start, step, end in (
        ("latent", model.latent_log_densities, u, 0.1, LATENT),
        (
            "data_space", data_space_log_density(model), data_space_start(model, u), 0.005, OUTSIDE
        ),
    ):  # fmt: skip
        how = {
            "kernel": kernel, "chunk": 10, "step_size": step,
            "summary": chain_summary if name == "latent" else None,
        }  # fmt: skip
        sample(jr.key(7), density, start, num_draws=1, num_warmup=1, **how)  # compiles
        seconds = max(LEAST, began + end * whole - time.monotonic())
        draws = sample(
            jr.key(7), density, start, num_draws=40 if tiny else DRAWS,
            num_warmup=10 if tiny else WARMUP, until=None if tiny else Until(seconds=seconds),
            **how,
        )  # fmt: skip
        number = draws.energies.shape[1]
        told = {"chains": len(u), "draws": number, "step_size": draws.step_size}
        if number:
            rate = len(u) * draws.transitions / max(draws.seconds, 1e-9)
            told |= {"acceptance": draws.acceptance, "transitions_per_second": rate}
        keep(f"{name} chains", told)
        made.append(draws if number >= 8 else None)
    return made[0], made[1]


def gained(
    keep: Keep, model: TiltedModel, test: Rows, f: np.ndarray, seconds: float, tiny: bool
) -> None:
    """Bits/dim and gain of the tilted model, by bridge sampling."""
    number = TINY_EXACT if tiny else EXACT
    log_z = bridge(np.asarray(exact_f(model, number, jr.key(8))), f)
    found = likelihood(score(model, test, jr.key(2), DEQUANTISATIONS), log_z)
    dim = model.backbone.dim
    nats = {"mean": found.gain.mean, "low": found.gain.low, "high": found.gain.high}
    bits = bits_per_dim(found.tilted.mean, dim)
    keep("tilted", {"bpd": bits, "gain_nats": nats, "holds": log_z.holds, "seconds": seconds})


def look(keep: Keep, model: TiltedModel, latent: Draws, outside: Draws | None) -> None:
    """R-hat as histograms, and the autocorrelation, of the same quantities of both."""
    flow = model.backbone
    assert isinstance(flow, Flow)
    u = np.asarray(latent.positions)
    directions = np.asarray(jr.normal(jr.key(9), (flow.dim, PROJECTIONS)))
    directions = directions / np.linalg.norm(directions, axis=0)
    keep("rhat u", histogram(rhat(u.reshape(*u.shape[:2], -1))))
    both = {"latent": in_parts(flow.coordinates, u)}
    f = {"latent": np.asarray(latent.summaries["f"])}
    if outside is not None:
        both["data_space"] = np.asarray(outside.positions)
        f["data_space"] = in_parts(model.tilt, both["data_space"])
    for name, y in both.items():
        projections = y @ directions
        lags = min(LAGS, y.shape[1] // 2)
        keep(f"rhat {name}", {"f": float(rhat(f[name]))} | histogram(rhat(projections)))
        keep(
            f"autocorrelation {name}",
            {
                "f": np.round(autocorrelation(f[name], lags), 4).tolist(),
                "projection": np.round(autocorrelation(projections[..., 0], lags), 4).tolist(),
            },
        )


def histogram(rhats: np.ndarray) -> dict[str, Any]:
    """How many quantities have an R-hat up to each edge, beyond the one before it."""
    edges = [0.0, *EDGES, np.inf]
    counts = np.histogram(rhats[np.isfinite(rhats)], edges)[0].tolist()
    names = [*(f"up to {edge:g}" for edge in EDGES), "above"]
    return {"worst": float(np.nanmax(rhats)), "counts": dict(zip(names, counts, strict=True))}


@eqx.filter_jit
def _in_parts(function: Callable, points: jax.Array) -> jax.Array:
    return jax.lax.map(function, points, batch_size=256)


def in_parts(function: Callable, draws: np.ndarray) -> np.ndarray:
    """`function` of every draw `[chains, draws, ...]`, in little memory."""
    chains, number = draws.shape[:2]
    flat = jnp.asarray(draws.reshape(chains * number, *draws.shape[2:]))
    made = np.asarray(_in_parts(function, flat))
    return made.reshape(chains, number, *made.shape[1:])
