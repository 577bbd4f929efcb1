"""The flows of the contract, their weights far from those of the identity, and rows for them."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tiltflow.backbones import CouplingFlow, Gaussian, Glow, GlowSizes, dequantise, fit_units
from tiltflow.backbones.base import Flow
from tiltflow.backbones.coupling import splits_of
from tiltflow.backbones.units.scale import fit_logit_scale, fit_scale

INTEGERS = ("gaussianise", "logit", "logit of images")
LEVELS = 5


def rows(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Correlated rows: integers 0 to 4, or normals off centre with unequal scales."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(400, *shape)) + rng.normal(size=(400, *[1] * len(shape)))
    if kind in INTEGERS:
        return np.clip(np.round(2 + noise), 0, LEVELS - 1)
    return 3.0 + noise * np.linspace(0.5, 2.0, int(np.prod(shape))).reshape(shape)


@functools.cache
def make(kind: str, shape: tuple[int, ...], flow: type[Flow] = CouplingFlow) -> Flow:
    """A flow whose scales and shifts are far from those of the identity."""
    if issubclass(flow, Glow):
        return make_glow(kind, shape, flow)
    units = fit_units(kind, rows(kind, shape), integers=kind in INTEGERS)
    if issubclass(flow, Gaussian):
        return flow(units)
    num_blocks = max(2, splits_of(int(np.prod(shape))))  # every cut
    backbone = flow(units, num_blocks=num_blocks, width=8, key=jr.key(1))

    def conditioners(block):
        return [block.to_second.out, block.to_first.out]

    outs, treedef = jax.tree.flatten(conditioners(backbone.blocks[0]))
    keys = jr.split(jr.key(2), len(outs))
    scale = 0.8 / num_blocks  # quadrature and float32 want maps that are not too wild
    drawn = [
        scale * jr.normal(k, (num_blocks, *out.shape)) for k, out in zip(keys, outs, strict=True)
    ]
    blocks = [
        eqx.tree_at(conditioners, block, jax.tree.unflatten(treedef, [x[i] for x in drawn]))
        for i, block in enumerate(backbone.blocks)
    ]
    return eqx.tree_at(lambda f: f.blocks, backbone, tuple(blocks))


def make_glow(kind: str, shape: tuple[int, ...], flow: type[Glow]) -> Flow:
    """A Glow with noise on all that is learned."""
    x = rows(kind, shape)
    units = fit_logit_scale(x) if kind in INTEGERS else fit_scale(x, integers=False)
    backbone = flow(units, GlowSizes(steps=1, width=6), key=jr.key(1))
    learned, rest = eqx.partition(backbone.scales, eqx.is_inexact_array)
    leaves, treedef = jax.tree.flatten(learned)
    rng = np.random.default_rng(2)
    leaves = [jnp.asarray(np.float32(x + 0.1 * rng.normal(size=x.shape))) for x in leaves]
    scales = eqx.combine(jax.tree.unflatten(treedef, leaves), rest)
    return eqx.tree_at(lambda b: b.scales, backbone, scales)


def data(kind: str, shape: tuple[int, ...]) -> jax.Array:
    x = jnp.asarray(rows(kind, shape)[:32], jnp.float32)
    return dequantise(jr.key(5), x) if kind in INTEGERS else x
