"""What a Glow's latent gradient costs over a bare pass, and which form its loops should have.

    python benchmarks/glow.py [--json FILE] [--quick]

A sampler's work is the gradient of log pi(u) for a batch of chains, again and again inside of a
compiled loop. `ours` is `TiltedModel` with a Glow for 28 x 28 pixels (two scales, 5 steps each,
64 hidden channels) and a tilt of one product, as samplers take it. `bare` is the same layers
written down over the batch with arrays alone, its matrices inverted beforehand, and its gradient.

Forms are those of the bare pass, with 64 chains: 3 x 3 convolutions as products of matrices (what
the library does) or as XLA's own, the steps one after the other or scanned; each in a compiled loop
and by itself. `weights` is a learner's gradient, in the weights, in a loop.

Programs run in turn (`timing.py`); seconds are those of one gradient, medians. Keys of the JSON:
gradient.{64,256}.{ours,bare,ratio}, forms.{products,xla,scanned}.{loop,alone,weights}.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.console import Console
from rich.table import Table
from timing import interleaved, ratio

from tiltflow.backbones import Glow, GlowSizes
from tiltflow.backbones.convolution import OFFSETS, shifted
from tiltflow.backbones.glow_step import Coupling, Step
from tiltflow.backbones.units.scale import identity
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import CoordinateTilt

SHAPE, SIZES = (28, 28), GlowSizes(steps=5, width=64)
BATCHES = (64, 256)
FORMS = ("products", "xla", "scanned")
EVALUATIONS = 10  # in a loop

Arrays = dict[str, jax.Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a look, no more")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 15
    model = make()
    results = {"gradient": {}, "forms": {}}
    for batch in BATCHES:
        results["gradient"][str(batch)] = gradient(model, batch, rounds)
    results["forms"] = forms(model, rounds)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def make() -> TiltedModel:
    """A Glow whose weights are all at work, and a linear tilt."""
    glow = Glow(identity(SHAPE), SIZES, key=jr.key(0))
    learned, rest = eqx.partition(glow.scales, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(learned)
    keys = jr.split(jr.key(1), len(leaves))
    leaves = [leaf + 0.03 * jr.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    glow = eqx.tree_at(
        lambda g: g.scales, glow, eqx.combine(jax.tree.unflatten(tree, leaves), rest)
    )
    slope = jr.normal(jr.key(2), (glow.dim,)) / glow.dim
    return TiltedModel(glow, CoordinateTilt(lambda c: c @ slope))


def gradient(model: TiltedModel, batch: int, rounds: int) -> dict[str, float]:
    """Seconds of a latent gradient in a loop, ours and bare."""
    u = jr.normal(jr.key(3), (batch, model.backbone.dim))
    arrays = bare_arrays(model)
    ours = looped(jax.grad(lambda u: jnp.sum(model.latent_log_densities(u))))
    bare = looped(jax.grad(partial(bare_density, arrays, form="products")))
    np.testing.assert_allclose(ours(u), bare(u), atol=1e-3)  # the same layers
    seconds = interleaved({"ours": lambda: ours(u), "bare": lambda: bare(u)}, rounds=rounds)
    each = {name: float(np.median(taken)) / EVALUATIONS for name, taken in seconds.items()}
    return each | {"ratio": ratio(seconds["ours"], seconds["bare"])}


def forms(model: TiltedModel, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of the bare gradients by the form of their loops."""
    u = jr.normal(jr.key(3), (BATCHES[0], model.backbone.dim))
    arrays, programs = bare_arrays(model), {}
    for form in FORMS:
        density = partial(bare_density, form=form)
        of_u = jax.grad(partial(density, arrays))
        programs[f"{form} loop"] = partial(looped(of_u), u)
        programs[f"{form} alone"] = partial(jax.jit(of_u), u)
        programs[f"{form} weights"] = partial(learned(jax.grad(density)), arrays, u)
    seconds = interleaved(programs, rounds=rounds)
    found = {form: {} for form in FORMS}
    for name, taken in seconds.items():
        form, what = name.split()
        evaluations = 1 if what == "alone" else EVALUATIONS
        found[form][what] = float(np.median(taken)) / evaluations
    return found


def looped(slope: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """A program of so many gradients, each at another place."""
    return jax.jit(lambda u: jax.lax.fori_loop(0, EVALUATIONS, lambda _, u: u + 1e-3 * slope(u), u))


def learned(slope: Callable) -> Callable:
    """A program of so many steps up the gradient in the weights."""

    def step(_: int, arrays: list, u: jax.Array) -> list:
        return jax.tree.map(lambda a, g: a + 1e-6 * g, arrays, slope(arrays, u))

    return jax.jit(lambda arrays, u: jax.lax.fori_loop(0, EVALUATIONS, partial(step, u=u), arrays))


def bare_arrays(model: TiltedModel) -> list:
    """The arrays of every scale: those of its steps, stacked, and of its split."""
    assert isinstance(model.backbone, Glow)
    scales = []
    for scale in model.backbone.scales:
        steps = [of_step(step) for step in scale.steps]
        stacked = {name: jnp.stack([step[name] for step in steps]) for name in steps[0]}
        scales.append([stacked, {} if scale.split is None else of_coupling(scale.split)])
    return [scales, jax.grad(model.tilt)(jnp.zeros(model.backbone.dim))]


def of_step(step: Step) -> Arrays:
    channels = len(step.mixing.order)
    matrix = step.mixing.forward(jnp.eye(channels)[None])[0]
    scale, shift = jnp.exp(step.normalisation.log_scale), step.normalisation.shift
    return of_coupling(step.coupling) | {"matrix": matrix, "scale": scale, "shift": shift}


def of_coupling(coupling: Coupling) -> Arrays:
    net = coupling.conditioner
    assert net.middle.bias is not None
    return {
        "first": net.first.weight,
        "first_bias": net.first.bias + net.places,
        "middle": net.middle.weight.T,
        "middle_bias": net.middle.bias,
        "last": net.last.weight,
        "last_bias": net.last.bias,
    }


def bare_density(arrays: list, u: jax.Array, *, form: str) -> jax.Array:
    """The sum of the latent log-densities of a batch, by arrays alone."""
    scales, slope = arrays
    n, (height, width) = len(u), SHAPE
    half = u.shape[1] // 2
    z = u[:, half:].reshape(n, height // 4, width // 4, 8)
    for number, (steps, split) in reversed(list(enumerate(scales))):
        if split:
            z = jnp.concatenate([z, u[:, :half].reshape(n, height // 2, width // 2, 2)], axis=-1)
            z = coupled(split, z, form)
        z = stepped(steps, z, form)
        sides, channels = z.shape[1:3], z.shape[3] // 4
        z = z.reshape(n, *sides, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
        z = z.reshape(n, 2 * sides[0], 2 * sides[1], channels)
        assert number or z.shape[1:3] == SHAPE
    return jnp.sum(z.reshape(n, -1) @ slope) - 0.5 * jnp.sum(u**2)


def stepped(steps: Arrays, z: jax.Array, form: str) -> jax.Array:
    def step(z: jax.Array, a: Arrays) -> jax.Array:
        z = coupled(a, z, form)
        return product(z, a["matrix"]) * a["scale"] + a["shift"]

    if form == "scanned":
        return jax.lax.scan(lambda z, a: (step(z, a), None), z, steps, reverse=True)[0]
    for number in reversed(range(SIZES.steps)):
        z = step(z, {name: value[number] for name, value in steps.items()})
    return z


def coupled(a: Arrays, z: jax.Array, form: str) -> jax.Array:
    gather, spread = (xla, xla) if form == "xla" else (gathered, spread_out)
    kept, moved = jnp.split(z, 2, axis=-1)
    x = smooth(gather(3 * jnp.tanh(kept / 3), a["first"]) + a["first_bias"])
    x = smooth(product(x, a["middle"]) + a["middle_bias"])
    log_scale, shift = jnp.split(spread(x, a["last"]) + a["last_bias"], 2, axis=-1)
    moved = moved * jnp.exp(2 * jnp.tanh(log_scale / 2)) + shift
    return jnp.concatenate([kept, moved], axis=-1)


def smooth(x: jax.Array) -> jax.Array:
    return 0.5 * x * (1 + jnp.tanh(0.5 * x))


def product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)


def gathered(x: jax.Array, weight: jax.Array) -> jax.Array:
    near = jnp.concatenate([shifted(x, *offset) for offset in OFFSETS], axis=-1)
    return product(near, weight.reshape(-1, weight.shape[-1]))


def spread_out(x: jax.Array, weight: jax.Array) -> jax.Array:
    matrix = weight.swapaxes(0, 1).reshape(weight.shape[1], -1)
    parts = jnp.split(product(x, matrix), 9, axis=-1)
    return sum(shifted(part, *offset) for part, offset in zip(parts, OFFSETS, strict=True))


def xla(x: jax.Array, weight: jax.Array) -> jax.Array:
    kernel = weight.reshape(3, 3, *weight.shape[1:])
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)


def show(results: dict) -> None:
    """Print the tables."""
    console = Console(width=100)
    table = Table("latent gradient, in a loop", "ours, ms", "bare, ms", "ratio", "aim", box=None)
    for batch, found in results["gradient"].items():
        ours, bare = (f"{1e3 * found[name]:.1f}" for name in ("ours", "bare"))
        table.add_row(f"{batch} chains", ours, bare, f"{found['ratio']:.2f}", "at most 1.1")
    console.print(table)
    table = Table("bare, 64 chains, ms", "in a loop", "by itself", "weights, in a loop", box=None)
    words = {
        "products": "products of matrices",
        "xla": "XLA's convolutions",
        "scanned": "products, steps scanned",
    }
    for form, found in results["forms"].items():
        cells = (f"{1e3 * found[name]:.1f}" for name in ("loop", "alone", "weights"))
        table.add_row(words[form], *cells)
    console.print(table)


if __name__ == "__main__":
    main()
