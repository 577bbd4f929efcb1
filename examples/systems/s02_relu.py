"""S2: Hamiltonian Monte Carlo is inefficient on ReLU networks (Dinh, Ho, Nguyen 2024).

    python examples/systems/s02_relu.py [--quick] [--seed N] [--json FILE]

arXiv 2410.22065: where a trajectory crosses a kink, the energy error of a leapfrog is as large as
its step, not as its cube; so steps have to fall with the dimension as d^(-1/2), not d^(-1/4), and
the best acceptance is 0.45, not 0.65. Here: (a) the order of the error of one step, at equilibrium
draws of a random network's tilt, for five activations; (b) a product density whose exact draws are
known, trajectories of length 1.6, the step at which 0.8 are accepted against the dimension, and the
acceptance where acceptance per gradient is largest; (c) the verdict's check, at two fits of the
digits that differ in the activation alone.
"""

import sys
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from table import Claim, finish, parser

import tiltflow
from tiltflow import mcmc
from tiltflow.backbones import Gaussian
from tiltflow.backbones.units.scale import identity
from tiltflow.diagnostics.step_order import order_of_error
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import NetworkTilt

SMOOTH = {"SiLU": jax.nn.silu, "tanh": jnp.tanh, "softplus": jax.nn.softplus}
KINKED = {"ReLU": jax.nn.relu, "leaky ReLU": jax.nn.leaky_relu}
PRODUCTS = {"|x|": jnp.abs, "sqrt(0.05 + x^2)": lambda x: jnp.sqrt(0.05 + x**2)}
LENGTH = 1.6  # of the trajectories
CHECK = "order of the energy error of a step"


def order(activation, *, seed: int, draws: int, dim: int = 16) -> float:
    """Of one leapfrog's energy error, between steps of 0.2 and 0.05, rms over equilibrium draws."""
    net_key, scale_key, start_key, key = jr.split(jr.key(seed), 4)
    network = eqx.nn.MLP(dim, "scalar", 64, 2, activation=activation, key=net_key)
    network = eqx.tree_at(lambda n: n.layers[0].weight, network, 3 * network.layers[0].weight)
    f = jax.vmap(network)(jr.normal(scale_key, (2_000, dim)))
    flow = Gaussian(identity((dim,)))
    model = TiltedModel(flow, NetworkTilt(network, gate=3 / float(f.std())))
    start = jr.normal(start_key, (draws, dim))
    found = mcmc.sample(
        key, model.latent_log_densities, start, num_draws=1, num_warmup=100, thin=20
    )
    force = eqx.filter_jit(mcmc.value_and_gradient(model.latent_log_densities))
    u, rng = np.asarray(found.final.position), np.random.default_rng(seed)
    both = [
        order_of_error(lambda u: tuple(map(np.asarray, force(u))), u, step, rng).order
        for step in (0.2, 0.1)
    ]
    return float(np.mean(both))


def exact_draws(phi, shape: tuple[int, int], key) -> jax.Array:
    """Independent draws of exp(-2 phi(x) - x^2 / 2), by its distribution function on a grid."""
    x = jnp.linspace(-6.0, 6.0, 20_001)
    mass = jnp.cumsum(jnp.exp(-2 * phi(x) - 0.5 * x**2))
    return jnp.interp(jr.uniform(key, shape), mass / mass[-1], x)


def acceptances(phi, dim: int, steps: list[int], *, chains: int, seed: int) -> np.ndarray:
    """The mean acceptance of trajectories of length 1.6, from exact draws, for numbers of steps."""

    def log_density(x):
        return jnp.sum(-2 * phi(x) - 0.5 * x**2, axis=1)

    force = mcmc.value_and_gradient(log_density)
    draw_key, key = jr.split(jr.key(seed))
    state = mcmc.init(exact_draws(phi, (chains, dim), draw_key), force)

    @jax.jit
    def accepted(count):
        _, info = mcmc.step(key, state, force, LENGTH / count, num_leapfrogs=count, jitter=0.0)
        return jnp.mean(info.acceptance_rate)

    return np.array([float(accepted(count)) for count in steps])


def scaling(phi, dims: list[int], *, chains: int, seed: int) -> tuple[float, float, float]:
    """The slope of log step against log d at acceptance 0.8, the best acceptance, the last step."""
    steps = sorted({round(x) for x in np.geomspace(2, 200, 40)})
    sizes = LENGTH / np.array(steps)
    at, best = [], []
    for dim in dims:
        rates = acceptances(phi, dim, steps, chains=chains, seed=seed)
        at.append(np.exp(np.interp(0.8, rates, np.log(sizes))))
        worth = np.log(np.maximum(rates, 1e-9) * sizes)  # acceptance per gradient
        near = worth > worth.max() - 0.15  # the top of a parabola: single points are noisy
        top = np.polyfit(np.log(sizes[near]), worth[near], 2) if near.sum() > 2 else None
        middle = np.log(sizes[np.argmax(worth)]) if top is None else -top[1] / (2 * top[0])
        best.append(np.interp(-middle, -np.log(sizes), rates))
    return float(np.polyfit(np.log(dims), np.log(at), 1)[0]), float(np.mean(best)), float(at[-1])


def told_of(activation, *, seed: int, quick: bool) -> float:
    """The verdict's number for a fit of the digits with a tilt of this activation."""
    network = eqx.nn.MLP(64, "scalar", 64, 2, activation=activation, key=jr.key(seed))
    settings = tiltflow.Settings(
        model=tiltflow.fitting.settings.ModelSettings(blocks=2, flow_width=32),
        backbone=tiltflow.learning.BackboneSettings(steps=250 if quick else 1_000),
        tilt=tiltflow.learning.TiltSettings(steps=60 if quick else 400, particles=512, bank=2_000),
        sampling=tiltflow.evaluation.chains.SamplingSettings(
            chains=16, draws=20 if quick else 200, exact_draws=20_000, at_most=1
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = tiltflow.fit("digits", settings, tilt=NetworkTilt(network), seed=seed)
    checks = {check["name"]: check["value"] for check in fitted.metrics["verdict"]["checks"]}
    return float(checks.get(CHECK, np.nan))


def main() -> int:
    arguments = parser(__doc__).parse_args()
    quick, seed, started = arguments.quick, arguments.seed, time.perf_counter()
    orders = {
        name: order(activation, seed=seed, draws=256 if quick else 1_024)
        for name, activation in (SMOOTH | KINKED).items()
    }
    smooth, kinked = min(orders[name] for name in SMOOTH), max(orders[name] for name in KINKED)
    dims, chains = ([16, 64], 256) if quick else ([16, 64, 256], 2_048)
    (slope_k, best_k, step_k), (slope_s, best_s, step_s) = (
        scaling(phi, dims, chains=chains, seed=seed) for phi in PRODUCTS.values()
    )
    relu, silu = (told_of(act, seed=seed, quick=quick) for act in (jax.nn.relu, jax.nn.silu))
    rows = [
        ("order of a step's error, smooth, least of three", 3.0, smooth, 2.8),
        ("the same with kinks, most of two", 1.5, kinked, 1.7, False),
        ("slope of the step against d, off -1/2, |x|", None, abs(slope_k + 0.5), 0.08, False),
        ("the same, off -1/4, smooth", None, abs(slope_s + 0.25), 0.08, False),
        ("best acceptance, |x|, mean over d", 0.45, best_k, 0.55, False),
        ("best acceptance, smooth, mean over d", 0.65, best_s, 0.60),
        (f"step at 0.8 accepted, d = {dims[-1]}, smooth over |x|", 1.0, step_s / step_k, 4.0),
        ("the verdict's order, digits, ReLU (limit 2.5)", 1.5, relu, 2.5, False),
        ("the verdict's order, digits, SiLU", 3.0, silu, 2.5),
    ]
    claims = [Claim("S2", *row) for row in rows]
    return finish(claims, arguments, time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
