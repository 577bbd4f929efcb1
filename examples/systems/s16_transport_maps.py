"""S16: sampling with approximate transport maps (Grenioux, Durmus, Moulines, Gabrié 2023).

    python examples/systems/s16_transport_maps.py [--quick] [--seed N] [--json FILE]

arXiv 2302.04763: proposals of a flow win where the target has modes, chains in the flow's latent
space win where the flow is bad. Here, first half: a normal target of 64 dimensions, its variances
from 0.1 to 10, turned by 45 degrees in the plane of the first and last axes; the "flow" is its
Cholesky factor, interpolated from sqrt(0.1) I (t = 0) to the exact one (t = 0.5). Score: the mean
Kolmogorov distance, over 64 projections, to the exact normal; 32 chains, 200 + 1,000 transitions.
Second half: four unequal modes and a coupling flow (`benchmarks/mixing_modes.py`).
"""

import sys
import time
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import norm
from table import Claim, aligned, finish, parser

from tiltflow.backbones import Gaussian
from tiltflow.backbones.units.bijections import Affine
from tiltflow.mcmc import HMC, ISIR, MALA, Independence, Mixture, sample
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import GivenTilt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from mixing_modes import FourModes, fitted_flow, histogram

DIM, CHAINS = 64, 32
FLOWS = (0.5, 0.45, 0.35, 0.2)
UNEQUAL = (0.1, 0.2, 0.3, 0.4)
HERE, THERE = HMC(num_leapfrogs=8), ISIR(proposals=40)
KERNELS = {
    "hmc": HERE, "mala": MALA(), "isir": THERE, "independence": Independence(),
    "mixture": Mixture((HERE, THERE), cycle=(0, 1)),
}  # fmt: skip


class Normal(eqx.Module):
    """A centred normal density, up to its constant, by what whitens its draws."""

    whitener: Float[Array, "dim dim"]

    def __call__(self, x):
        return -0.5 * jnp.sum((self.whitener @ x) ** 2)


def target(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Covariance, and its Cholesky factor."""
    axes = np.eye(dim)
    axes[[0, 0, -1, -1], [0, -1, 0, -1]] = np.sqrt(0.5) * np.array([1, -1, 1, 1])
    covariance = axes @ np.diag(np.geomspace(0.1, 10, dim)) @ axes.T
    return covariance, np.linalg.cholesky(covariance)


def model_of(factor: np.ndarray, covariance: np.ndarray) -> TiltedModel:
    """The target, seen from the linear flow x = factor u."""
    dim, inverse = len(factor), np.linalg.inv(factor)
    log_det = jnp.asarray(np.linalg.slogdet(inverse)[1])
    matrices = (jnp.asarray(m, jnp.float32) for m in (inverse, factor))
    units = Affine(jnp.zeros(dim), *matrices, log_det, (dim,))
    flow = Gaussian(units)
    whitener = jnp.asarray(np.linalg.inv(np.linalg.cholesky(covariance)), jnp.float32)
    return TiltedModel(flow, GivenTilt(Normal(whitener), flow))


def distance(x: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """The mean Kolmogorov distance over projections, and the rms error of log-variances."""
    directions = np.random.default_rng(0).standard_normal((covariance.shape[0], 64))
    directions /= np.sqrt(np.sum(directions * (covariance @ directions), axis=0))
    below = norm.cdf(np.sort(x @ directions, axis=0))
    steps = np.arange(len(x) + 1)[:, None] / len(x)
    apart = np.maximum(np.abs(below - steps[1:]), np.abs(below - steps[:-1])).max(axis=0)
    values, axes = np.linalg.eigh(covariance)
    spread = np.log(np.var(x @ axes, axis=0) / values)
    return float(apart.mean()), float(np.sqrt(np.mean(spread**2)))


def drawn(model: TiltedModel, factor: np.ndarray, kernel, draws: int, seed: int) -> np.ndarray:
    """All draws of the chains, in data space, `[chains * draws, dim]`."""
    start, key = jr.split(jr.key(seed))
    u, density = jr.normal(start, (CHAINS, len(factor))), model.latent_log_densities
    found = sample(key, density, u, num_draws=draws, num_warmup=200, kernel=kernel)
    return np.asarray(found.positions).reshape(-1, len(factor)) @ factor.T


def linear(dim: int, flows, draws: int, seed: int) -> tuple[dict, float]:
    """The distance of every kernel at every flow, and that of independent draws."""
    covariance, exact = target(dim)
    found, rows = {}, [("flow", *KERNELS)]
    for t in flows:
        factor = (1 - 2 * t) * np.sqrt(0.1) * np.eye(dim) + 2 * t * exact
        model = model_of(factor, covariance)
        for name, kernel in KERNELS.items():
            found[name, t] = distance(drawn(model, factor, kernel, draws, seed), covariance)
        told = (f"{ks:.4f} ({rms:.3f})" for ks, rms in (found[name, t] for name in KERNELS))
        rows.append((f"t = {t}", *told))
    print(aligned(rows), flush=True)
    none = drawn(model_of(np.eye(dim), covariance), np.eye(dim), HERE, draws, seed)
    found["data space", 0.0] = distance(none, covariance)
    independent = np.random.default_rng(seed).standard_normal((CHAINS * draws, dim)) @ exact.T
    return {where: ks for where, (ks, _) in found.items()}, distance(independent, covariance)[0]


def modes(dim: int, transitions: int, seed: int, quick: bool) -> list[float]:
    """Total variation of the shares of four modes, by local chains and by both kernels in turn."""
    four = FourModes(dim, UNEQUAL)
    flow = fitted_flow(four, quick)
    model, found = TiltedModel(flow, GivenTilt(four.log_density, flow)), []
    start, key = jr.split(jr.key(seed))
    push = eqx.filter_jit(eqx.filter_vmap(eqx.filter_vmap(flow.push)))
    for name in ("hmc", "mixture"):
        draws = sample(
            key, model.latent_log_densities, jr.normal(start, (CHAINS, dim)),
            num_draws=transitions // 4, thin=4, num_warmup=200, kernel=KERNELS[name],
        )  # fmt: skip
        found.append(histogram(np.asarray(push(draws.positions)), four, UNEQUAL)["tv"])
    return found


def main() -> int:
    arguments = parser(__doc__).parse_args()
    quick, seed, started = arguments.quick, arguments.seed, time.perf_counter()
    dim, draws, flows = (8, 100, (0.5, 0.2)) if quick else (DIM, 1_000, FLOWS)
    ks, floor = linear(dim, flows, draws, seed)
    local, both = modes(16 if quick else DIM, 200 if quick else 4_000, seed, quick)
    worst = max(ks["mixture", t] / min(ks["hmc", t], ks["isir", t]) for t in flows)
    good, bad = flows[0], flows[-1]
    rows = [
        ("exact flow: i-SIR over independent draws", 1.0, ks["isir", good] / floor, 1.5, False),
        ("exact flow: i-SIR over HMC", 1.0, ks["isir", good] / ks["hmc", good], 1.0, False),
        ("bad flow (t = 0.2): latent HMC", ks["isir", bad], ks["hmc", bad], 0.015, False),
        ("bad flow: i-SIR over latent HMC", 1.0, ks["isir", bad] / ks["hmc", bad], 5.0),
        ("HMC and i-SIR in turn over the better, at the worst", 1.0, worst, 2.0, False),
        ("four modes, total variation, in turn", local, both, 0.02, False),
        ("four modes, total variation, latent HMC alone", both, local, 0.05),
        ("HMC without a flow", floor, ks["data space", 0.0], None),
    ]
    claims = [Claim("S16", *row) for row in rows]
    return finish(claims, arguments, time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
