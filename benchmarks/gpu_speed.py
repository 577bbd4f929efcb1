"""How near to its ceilings a device comes with tiltflow's programs: the first parts of `gpu.py`.

Ceilings are measured in the same run: a large product of matrices in float32 as the device likes
it (`product`; TensorFloat-32 on recent ones), in full float32 (`product_full`) and in bfloat16,
and the bandwidth of `a x + b` on a large array.

Work of a latent gradient is that of its matrix products, forward and back to u, as JAX has traced
them: 2 m n k operations each; those of full precision are held against that ceiling. `flops` is
the time which that work would take at the ceilings, over the time it took. `bandwidth` is the
same of the memory that operands and results of these products take, as if each were read or
written once; what stays in a cache is read faster, so that it may exceed 1. Permutations that are
products count as no work.

A transition is HMC's with 5 leapfrogs on the digits' flow: `mcmc.sample`'s own program, records
included, beside BlackJAX's HMC in a loop, which records nothing (`sampling_programs.py`), in turn.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import sampling_programs
from gpu_pace import Paced, paced
from timing import interleaved, ratio

from tiltflow.backbones import fit_units
from tiltflow.fitting.recipes import specification
from tiltflow.fitting.settings import Settings, suited_glow
from tiltflow.learning import Rows, fit_backbone, fit_tilt
from tiltflow.model.tilted import TiltedModel

Keep = Callable[[str, Any], None]
DIGITS = (8, 8)
BATCHES = {"digits": (64, 1024, 16384), "glow_28": (64, 1024), "glow_32": (1024,)}
TINY_BATCHES = {"digits": (64,), "glow_28": (8,), "glow_32": (4,)}
CHAINS, TINY_CHAINS = (64, 256, 1024, 4096, 16384, 65536), (64, 256)
LEAPFROGS, STEP = 5, 0.05
ROWS = 1_400  # of digits
FULL = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def ceilings(keep: Keep, *, tiny: bool, **_: Any) -> None:
    """Operations a second of products, and bytes a second of a sweep."""
    side, length = (512, 2**22) if tiny else (8192, 2**28)
    matrix, long = jr.normal(jr.key(0), (side, side)), jnp.ones(length)
    half = matrix.astype(jnp.bfloat16)
    multiply = jax.jit(jnp.matmul, static_argnames="precision")
    sweep = jax.jit(lambda x: 1.5 * x + 0.5)
    seconds = interleaved(
        {
            "product": lambda: multiply(matrix, matrix),
            "product_full": lambda: multiply(matrix, matrix, precision="highest"),
            "product_bfloat16": lambda: multiply(half, half),
            "sweep": lambda: sweep(long),
        },
        rounds=3 if tiny else 15,
    )
    for name, taken in seconds.items():
        work = 8 * length if name == "sweep" else 2 * side**3
        unit = "gigabytes_per_second" if name == "sweep" else "gflops"
        keep(name, {unit: work / float(np.median(taken)) / 1e9})


def gradients(keep: Keep, *, tiny: bool, ceilings: dict[str, Any]) -> None:
    """The latent gradient of the digits' flow and of a Glow for 28 x 28 and for 32 x 32 x 3."""
    for name, model in models(tiny).items():
        for chains in (TINY_BATCHES if tiny else BATCHES)[name]:
            keep(f"{name} {chains}", gradient(model, chains, ceilings, tiny))


def models(tiny: bool) -> dict[str, TiltedModel]:
    """By name, all their weights at work."""
    shapes = {"glow_28": (28, 28), "glow_32": (32, 32, 3)}
    if tiny:
        shapes = {"glow_28": (4, 4), "glow_32": (4, 4, 3)}
    glows = {name: suited_glow(60_000, shape).model for name, shape in shapes.items()}
    if tiny:
        glows = {
            name: replace(model, glow=replace(model.glow, steps=1, width=8))
            for name, model in glows.items()
        }
    made = {"digits": whole(Settings().model, DIGITS)}
    return made | {name: whole(glows[name], shapes[name]) for name in shapes}


def whole(settings: Any, shape: tuple[int, ...]) -> TiltedModel:
    """The model that `fit` would learn, its weights moved off their starts at random."""
    units = fit_units("standardise", np.asarray(jr.normal(jr.key(2), (100, *shape))))
    model = specification(settings, units).build(units, key=jr.key(0))
    learned, rest = eqx.partition((model.backbone, model.tilt), eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(learned)
    keys = jr.split(jr.key(1), len(leaves))
    leaves = [leaf + 0.02 * jr.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return TiltedModel(*eqx.combine(jax.tree.unflatten(tree, leaves), rest))


def gradient(
    model: TiltedModel, chains: int, ceilings: dict[str, Any], tiny: bool
) -> dict[str, float]:
    """Microseconds of a gradient of so many chains, in a compiled loop, and its shares."""
    u = jr.normal(jr.key(3), (chains, *model.backbone.latent_shape))
    count = 2 if tiny else 20
    density = model.latent_log_densities
    run = {"gradients": lambda: sampling_programs.gradients(density, u, count)}
    taken = interleaved(run, rounds=3 if tiny else 7)["gradients"]
    seconds = float(np.median(taken)) / count
    work = products(jax.make_jaxpr(jax.grad(lambda u: jnp.sum(density(u))))(u).jaxpr)
    if model.backbone.latent_shape == (math.prod(DIGITS),):
        work = {"default": work["default"], "full": (0, 0)}  # of its flow: permutations
    operations, moved = (sum(both) for both in zip(*work.values(), strict=True))
    told = {"microseconds": 1e6 * seconds, "gflops": operations / seconds / 1e9}
    if {"product", "product_full", "sweep"} <= set(ceilings):
        ideal = 1e-9 * work["default"][0] / ceilings["product"]["gflops"]
        ideal += 1e-9 * work["full"][0] / ceilings["product_full"]["gflops"]
        through = 1e-9 * moved / ceilings["sweep"]["gigabytes_per_second"]
        told |= {"flops": ideal / seconds, "bandwidth": through / seconds}
    return told


def products(jaxpr: Any) -> dict[str, tuple[int, int]]:
    """Operations and bytes of all matrix products, by their precision."""
    found = {"default": np.zeros(2, int), "full": np.zeros(2, int)}
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, right, out = (v.aval for v in (*equation.invars, *equation.outvars))
            inner = math.prod(left.shape[axis] for axis in contracted)
            size = sum(x.size * x.dtype.itemsize for x in (left, right, out))
            which = "full" if equation.params["precision"] == FULL else "default"
            found[which] += (2 * inner * out.size, size)
        for value in equation.params.values():  # programs within
            if (inside := getattr(value, "jaxpr", value)) and hasattr(inside, "eqns"):
                for which, counted in products(inside).items():
                    found[which] += counted
    return {which: (int(a), int(b)) for which, (a, b) in found.items()}


def transitions(keep: Keep, *, tiny: bool, **_: Any) -> None:
    """Transitions of all chains a second, of tiltflow and of BlackJAX."""
    model = models(tiny)["digits"]
    for chains in TINY_CHAINS if tiny else CHAINS:
        start = jr.normal(jr.key(0), (chains, *model.backbone.latent_shape))
        each = 4 if tiny else 50 if chains <= 4096 else 10
        makers = {"tiltflow": sampling_programs.driver, "blackjax": sampling_programs.blackjax}
        programs = {n: make(model, start, STEP, LEAPFROGS, each) for n, make in makers.items()}
        seconds = interleaved(
            {n: program for n, program in programs.items() if program}, rounds=3 if tiny else 7
        )
        told = {n: chains * each / float(np.median(taken)) for n, taken in seconds.items()}
        if "blackjax" in seconds:
            told["time_over_blackjax"] = ratio(seconds["tiltflow"], seconds["blackjax"])
        keep(str(chains), told)


def learning(keep: Keep, *, tiny: bool, **_: Any) -> None:
    """Steps a second of the digits' flow and tilt; those of a Glow are told where it learns."""
    settings = Settings()
    model = whole(settings.model, DIGITS)
    units = model.backbone.units
    x = np.asarray(jr.normal(jr.key(4), (ROWS, *DIGITS)))
    rows, keys = Rows(jnp.asarray(x), units, integers=False), jr.split(jr.key(5))
    of_flow = replace(settings.backbone, steps=500 if tiny else 2_000, patience=100, val_draws=1)
    flow_pace = Paced()
    fit_backbone(model.backbone, rows, rows, of_flow, key=keys[0], keeper=flow_pace)
    keep("digits flow", paced(flow_pace, of_flow.batch))
    of_tilt = replace(
        settings.tilt, steps=20 if tiny else 200, check_every=5, patience=100, judge_every=100,
        share_end=0.99 if tiny else settings.tilt.share_end, watch=False, judge_draws=1,
        particles=64 if tiny else settings.tilt.particles,
        batch_particles=64 if tiny else settings.tilt.batch_particles, bank=64,
    )  # fmt: skip
    tilt_pace, tilt = Paced(), specification(settings.model, units).tilt(key=jr.key(6))
    fit_tilt(model.backbone, tilt, rows, rows, of_tilt, key=keys[1], keeper=tilt_pace)
    keep("digits tilt", paced(tilt_pace, of_tilt.batch_data))
