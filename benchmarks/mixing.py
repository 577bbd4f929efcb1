"""How well chains mix: in the latent space and out of it, chosen by a pilot, between modes.

    python benchmarks/mixing.py [--json FILE] [--run RUN] [--parts ...] [--dims ...] [--quick]

RUN is a folder made by `tiltflow fit digits`.

spaces: HMC with 5, 10, 20 and 40 leapfrogs in the latent space and on the same density in data
space (`tiltflow.data_space`), 64 chains from the same start, each with 10,000 gradients a chain,
a fifth of them for warm-up. What counts is the worst bulk effective size over all coordinates of
u and all of y, per gradient of all chains; the best length of each space, by the median over
seeds. Short runs flatter chains that hardly move (the effective size is seldom below the number
of chains), so --quick shows that everything runs, and no ratio. `rhat_max` is the worst R-hat
of those quantities in the latent space at its best length.

auto: the pilot's choice, against the best of a grid of lengths and of the catalogue's candidates.
All are tuned first, and then run in turn, at least so many transitions that their numbers are
known well; effective draws of the worst coordinate, of f and of |u|^2, a second; medians.

modes: `mixing_modes.py`.

Keys of the JSON: ess_per_gradient.{latent,data_space,ratio}, rhat_max,
lengths.{latent,data_space}.{5,10,20,40}, auto.{kernel,ratio_to_best,best,ess_per_second},
modes.{dim}.{local,mixture,flowmc} (total variation, the larger of equal and unequal modes), and
modes.{dim}.{equal,unequal}.{local,mixture,flowmc}.{tv,error,seconds}.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from mixing_modes import DIMS, modes
from rich.console import Console
from rich.table import Table

from tiltflow.data_space import data_space_log_density, data_space_start
from tiltflow.diagnostics.convergence import worst
from tiltflow.fitted import FittedModel, load_model
from tiltflow.latent import chain_summary
from tiltflow.mcmc import HMC, catalogue, sample
from tiltflow.mcmc.draws import Draws
from tiltflow.tilted import TiltedModel

PARTS = ("spaces", "auto", "modes")
LENGTHS = (5, 10, 20, 40)
GRID = (2, 4, 6, 8, 12, 16, 24, 32)  # leapfrogs that the pilot's choice is held against
CHAINS = 64
GRADIENTS = 10_000  # of each chain
SHARE = 0.2  # of them for warm-up
SEEDS = 3
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/digits"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dims", nargs="+", type=int, choices=DIMS, default=DIMS)
    parser.add_argument("--quick", action="store_true", help="short runs: a look, no more")
    arguments = parser.parse_args()

    results = {}

    def keep() -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")

    if {"spaces", "auto"} & set(arguments.parts):
        fitted = load_model(arguments.run / "model")
        if "spaces" in arguments.parts:
            results |= spaces(fitted, arguments.quick)
            keep()
        if "auto" in arguments.parts:
            results["auto"] = auto(fitted, arguments.quick)
            keep()
    if "modes" in arguments.parts:
        results["modes"] = {}
        for dim in arguments.dims:
            results["modes"][str(dim)] = modes(dim, quick=arguments.quick)
            keep()
    show(results)


def spaces(fitted: FittedModel, quick: bool) -> dict:
    """Effective draws per gradient in both spaces, by length."""
    model = fitted.model
    rates = {"latent": {}, "data_space": {}}
    rhats = {}
    for length in LENGTHS:
        found = [one(model, fitted.step_size, length, seed, quick) for seed in range(SEEDS)]
        for space, row in rates.items():
            row[str(length)] = float(np.median([each[space][0] for each in found]))
        rhats[length] = float(np.median([each["latent"][1] for each in found]))
        say = ", ".join(f"{space} {1e3 * row[str(length)]:.2f}" for space, row in rates.items())
        print(f"{length} leapfrogs: {say} effective draws per 1,000 gradients", flush=True)
    best = {space: max(row.values()) for space, row in rates.items()}
    longest = max(LENGTHS, key=lambda length: rates["latent"][str(length)])
    return {
        "ess_per_gradient": best | {"ratio": best["latent"] / best["data_space"]},
        "rhat_max": rhats[longest],
        "lengths": rates,
    }


def one(
    model: TiltedModel, step_size: float, length: int, seed: int, quick: bool
) -> dict[str, tuple[float, float]]:
    """Effective draws per gradient, and the worst R-hat, in both spaces from the same start."""
    budget = GRADIENTS // (10 if quick else 1)
    warmup = int(SHARE * budget / length)
    settings = {
        "num_warmup": warmup,
        "num_draws": budget // length - warmup,
        "kernel": HMC(num_leapfrogs=jnp.asarray(length)),
    }
    start_key, key = jr.split(jr.key(seed))
    u = jr.normal(start_key, (CHAINS, *model.backbone.latent_shape))
    latent = sample(key, model.latent_log_densities, u, step_size=step_size, **settings)
    twin = sample(
        key, data_space_log_density(model), data_space_start(model, u), step_size=0.02, **settings
    )
    return {
        "latent": rate(latent, both_of_u(model, latent.positions)),
        "data_space": rate(twin, both_of_y(model, twin.positions)),
    }


def rate(draws: Draws, watched: np.ndarray) -> tuple[float, float]:
    """Worst effective size per gradient of all chains, and worst R-hat."""
    ess, rhat = worst(watched)
    return ess / (CHAINS * draws.gradients), rhat


@eqx.filter_jit
def both_of_u(model: TiltedModel, u: jax.Array) -> jax.Array:
    """u and y of latent draws `[chains, draws, dim]`, side by side."""
    y = jax.vmap(jax.vmap(model.backbone.coordinates))(u)
    return jnp.concatenate([u, y], axis=2)


@eqx.filter_jit
def both_of_y(model: TiltedModel, y: jax.Array) -> jax.Array:
    """u and y of draws in data space, side by side."""
    u = jax.vmap(jax.vmap(lambda one: model.backbone.inverse(one)[0]))(y)
    return jnp.concatenate([u, y], axis=2)


def auto(fitted: FittedModel, quick: bool) -> dict:
    """The pilot's choice against a grid, all measured in turn by longer runs."""
    model = fitted.model
    choice = fitted.pilot(CHAINS)
    print(f"the pilot chose {choice.name}", flush=True)
    kernels = {f"hmc-{n}": HMC(num_leapfrogs=jnp.asarray(n)) for n in GRID}
    kernels |= catalogue.candidates(fitted.leapfrogs)
    start_key, key = jr.split(jr.key(1))
    start = jr.normal(start_key, (CHAINS, *model.backbone.latent_shape))
    tuned = {}
    for name, kernel in kernels.items():
        draws = sample(
            key, model.latent_log_densities, start, kernel=kernel, num_draws=20,
            num_warmup=60 if quick else 300, step_size=fitted.step_size, summary=chain_summary,
        )  # fmt: skip
        tuned[name] = (draws.step_size, draws.final.position)
    rates = {name: [] for name in kernels}
    for turn in range(2 if quick else ROUNDS):
        for name, kernel in kernels.items():
            step_size, position = tuned[name]
            draws = sample(
                jr.fold_in(key, turn + 1), model.latent_log_densities, position, kernel=kernel,
                num_draws=100 if quick else 600, num_warmup=0, step_size=step_size,
                summary=chain_summary,
            )  # fmt: skip
            watched = np.concatenate(
                [draws.positions, np.stack(list(draws.summaries.values()), axis=2)], axis=2
            )
            rates[name].append(worst(watched)[0] / draws.seconds)
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    best = max(medians, key=lambda name: medians[name])
    return {
        "kernel": choice.name,
        "best": best,
        "ratio_to_best": float(np.median(np.divide(rates[choice.name], rates[best]))),
        "ess_per_second": medians,
    }


def show(results: dict) -> None:
    """Print the table."""
    table = Table("", "", "aim", box=None)
    if found := results.get("ess_per_gradient"):
        for space in ("latent", "data_space"):
            words = f"{1e3 * found[space]:.2f} per 1,000 gradients"
            table.add_row(f"worst effective size, {space}", words, "")
        table.add_row("ratio", f"{found['ratio']:.1f}", "at least 25")
        table.add_row("worst R-hat, latent", f"{results['rhat_max']:.4f}", "at most 1.01")
        table.add_section()
    if found := results.get("auto"):
        table.add_row("auto", f"{found['kernel']}; the best is {found['best']}", "")
        table.add_row("auto, to the best", f"{found['ratio_to_best']:.2f}", "at least 0.9")
        table.add_section()
    for dim, found in results.get("modes", {}).items():
        for weights in ("equal", "unequal"):
            told = (f"{who} {row['tv']:.3f} ± {row['error']:.3f}, {row['seconds']:.0f} s"
                    for who, row in found[weights].items())  # fmt: skip
            table.add_row(
                f"total variation, {dim} dimensions, {weights}", "; ".join(told), "mixture 0.02"
            )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
