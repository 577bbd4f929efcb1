"""S7: manifold projection-diffusion recovery (Yoon, Jin, Noh, Park 2023).

arXiv 2310.18677: negatives near the data: a row is projected onto an autoencoder's manifold, its
latent point is given noise, and a short chain leads back. Here the autoencoder is a `Generator`,
the energy is the squared error of a copy of it, as in their MPDR-R, and chains move (z, eps), from
their exact normal start and with an accept step. The score of a row is its energy.
"""

import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array
from sklearn.neighbors import NearestNeighbors
from table import Claim, finish, parser

from tiltflow.backbones import Generator
from tiltflow.backbones.units.scale import identity
from tiltflow.evaluation.outliers.judge import judged
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.recovery import Recovery, fit_recovery
from tiltflow.tilts import OfData, Tilt

FOLDER = Path(__file__).parents[2] / "../shared/data/adbench"
SPLITS = {"optdigits": 3, "pendigits": 1, "Cardiotocography": 1}
FULL, QUICK = (750, 10**6), (50, 300)  # steps of recovery, and rows to learn


class Autoencoder(eqx.Module):
    first: eqx.nn.MLP
    second: eqx.nn.MLP
    mean: Array  # of z over rows, the Cholesky factor of its covariance, and the inverse of that
    factor: Array
    inverse: Array

    def __init__(self, dim: int, *, key: jax.Array) -> None:
        keys, z_dim = jr.split(key), dim // 2
        self.first = eqx.nn.MLP(dim, z_dim, 128, 2, jax.nn.silu, key=keys[0])
        self.second = eqx.nn.MLP(z_dim, dim, 128, 2, jax.nn.silu, key=keys[1])
        self.mean, self.factor, self.inverse = jnp.zeros(z_dim), jnp.eye(z_dim), jnp.eye(z_dim)

    def encode(self, x: Array) -> tuple[Array, Array]:
        z = self.inverse @ (self.first(x) - self.mean)
        return z, jnp.full_like(z, -6.0)  # log standard deviation: next to certain

    def decode(self, z: Array) -> Array:
        return self.second(self.factor @ z + self.mean)

    def error(self, x: Array) -> Array:
        return jnp.sum((self.second(self.first(x)) - x) ** 2)

    def whitened(self, x: np.ndarray) -> "Autoencoder":
        z = np.asarray(jax.vmap(self.first)(jnp.asarray(x)), np.float64)
        factor = np.linalg.cholesky(np.cov(z.T) * (1 + 1e-6 * np.eye(z.shape[1])))
        found = (jnp.asarray(a, "f4") for a in (z.mean(axis=0), factor, np.linalg.inv(factor)))
        return eqx.tree_at(lambda n: (n.mean, n.factor, n.inverse), self, tuple(found))


class Error(Tilt):
    network: Autoencoder
    scale: Array
    level: Array

    def __call__(self, c, key=None):  # minus the energy
        return -jnp.exp(self.scale) * self.network.error(c) - self.level


def trained(x: np.ndarray, steps: int, seed: int) -> Autoencoder:
    network, rows = Autoencoder(x.shape[1], key=jr.key(seed)), jnp.asarray(x)
    adam = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    arrays, rest = eqx.partition(network, eqx.is_array)

    def step(carry, key):
        batch = rows[jr.randint(key, (128,), 0, len(rows))]
        loss = eqx.filter_grad(lambda a: jnp.mean(jax.vmap(eqx.combine(a, rest).error)(batch)))
        updates, state = adam.update(loss(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    keys = jr.split(jr.key(seed + 1), steps)
    (arrays, _), _ = jax.lax.scan(step, (arrays, adam.init(arrays)), keys)
    return eqx.combine(arrays, rest).whitened(x)


def backbone_of(network: Autoencoder, x: np.ndarray) -> Generator:
    noise = float(np.sqrt(np.mean(jax.vmap(network.error)(jnp.asarray(x))) / x.shape[1]))
    how = {"z_dim": len(network.mean), "noise": noise}
    return Generator(identity(x.shape[1:]), network.decode, network.encode, **how)


def scores(x: np.ndarray, test: np.ndarray, steps: int, seed: int, **how) -> dict:
    network = trained(x, 2 * steps, seed)
    backbone = backbone_of(network, x)
    begun = Error(network, -jnp.log(2 * backbone.sigma**2), jnp.zeros(()))
    how = {"low": 0.3, "high": 1.5, "transitions": 2, **how}
    sizes = {"steps": steps, "iterations": steps, "batch_data": 128}
    recovery = Recovery(settings=TiltSettings(**sizes, rate=1e-4, decay=0.0, memory=0.99), **how)
    rows, tilt = Rows(x, identity(x.shape[1:]), False), OfData(begun, backbone.z_dim)
    found = fit_recovery(backbone, tilt, rows, recovery, key=jr.key(seed)).tilt
    return {
        "ours": -np.asarray(jax.vmap(found)(jnp.asarray(test))),
        "autoencoder": np.asarray(jax.vmap(network.error)(jnp.asarray(test))),
        "neighbours": NearestNeighbors(n_neighbors=5).fit(x).kneighbors(test)[0][:, -1],
    }


def compared(folder: Path, name: str, split: int, steps: int, rows: int, **how) -> dict:
    found = np.load(next(folder.glob(f"*_{name}.npz")))
    x, strange = found["X"].astype(np.float64), found["y"] == 1
    ordinary = np.random.default_rng(split).permutation(np.flatnonzero(~strange))
    train, rest = np.split(ordinary, [int(0.7 * len(ordinary))])
    test = np.concatenate([rest, np.flatnonzero(strange)])
    low, width = x[train].min(axis=0), np.ptp(x[train], axis=0)
    x = ((x - low) / np.where(width > 0, width, 1)).astype(np.float32)
    found = judged(scores(x[train[:rows]], x[test], steps, split, **how), strange[test])
    told = {who: one.auroc.value for who, one in found.items()}
    print(f"{name} {split}: " + ", ".join(f"{who} {v:.3f}" for who, v in told.items()), flush=True)
    low = found["autoencoder"].behind["auroc"].low
    return told | {"ahead": told["ours"] - told["autoencoder"], "low": low}


def main() -> int:
    taken = parser(__doc__)
    taken.add_argument("--data", type=Path, default=FOLDER, help="folder of the sets")
    arguments = taken.parse_args()
    if not arguments.data.is_dir():
        print(f"no folder {arguments.data}; pass that of the sets with --data", file=sys.stderr)
        return 2
    quick, first, started, rows = arguments.quick, 10 * arguments.seed, time.perf_counter(), []
    for name, splits in SPLITS.items():
        splits, sizes = (1, QUICK) if quick else (splits, FULL)
        found = [compared(arguments.data, name, first + i, *sizes) for i in range(splits)]
        mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        least, low = (0.02, 0.0) if name == "optdigits" else (-0.01, None)
        rows += [
            (f"{name}: AUROC less the autoencoder's", mean["autoencoder"], mean["ahead"], least),
            (f"{name}: the same, lower end", None, mean["low"], low),
            (f"{name}: AUROC, beside neighbours", mean["neighbours"], mean["ours"], None),
        ]
    claims = [Claim("S7", *row) for row in rows]
    return finish(claims, arguments, time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
