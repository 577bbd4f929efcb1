"""How well chains mix: in the latent space and out of it, chosen by a pilot, between modes.

    python benchmarks/mixing.py [--json FILE] [--run RUN] [--parts ...] [--dims ...] [--quick]

RUN is a folder made by `tiltflow fit digits --backbone coupling`.

spaces: HMC with 5, 10, 20 and 40 leapfrogs in the latent space, on the same density of the data
(`data_space`), and on that of the backbone's coordinates (`coordinates`: for the digits the data
after their columns were Gaussianised, which is easier), 64 chains from the same start, each with
10,000 gradients a chain, a fifth of them for warm-up. What counts is the worst bulk effective size
over all coordinates of u and all of y, per gradient of all chains; the best length of each space,
by the median over seeds. Chains that hardly move are flattered (the effective size is seldom below
their number), so the ratio to them is a lower bound, the shorter the run the weaker: --quick shows
that everything runs, and no ratio. `rhat` is the worst R-hat of those quantities at the best
length, `rhat_max` that of the latent space.

auto: the pilot's choice, against the best of a grid of lengths and of the catalogue's candidates.
All are tuned first, and then run in turn, at least so many transitions that their numbers are
known well; effective draws of the worst coordinate, of f and of |u|^2, a second; medians.

modes: `mixing_modes.py`.

Keys of the JSON: ess_per_gradient.{latent,data_space,coordinates,ratio,ratio_coordinates},
rhat.{latent,data_space,coordinates}, rhat_max, lengths.{latent,...}.{5,10,20,40},
auto.{kernel,ratio_to_best,best,ess_per_second},
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

from tiltflow.diagnostics.convergence import worst
from tiltflow.mcmc import HMC, catalogue, sample
from tiltflow.model.data_space import data_space_log_density, data_space_start
from tiltflow.model.fitted import FittedModel
from tiltflow.model.latent_chains import chain_summary
from tiltflow.model.loading import load_model
from tiltflow.model.tilted import TiltedModel

PARTS = ("spaces", "auto", "modes")
SPACES = ("latent", "data_space", "coordinates")
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
    """Effective draws per gradient in every space, by length."""
    rates = {space: {} for space in SPACES}
    rhats = {space: {} for space in SPACES}
    for length in LENGTHS:
        found = [one(fitted, length, seed, quick) for seed in range(SEEDS)]
        for space in SPACES:
            rates[space][length] = float(np.median([each[space][0] for each in found]))
            rhats[space][length] = float(np.median([each[space][1] for each in found]))
        say = ", ".join(f"{space} {1e3 * row[length]:.2f}" for space, row in rates.items())
        print(f"{length} leapfrogs: {say} effective draws per 1,000 gradients", flush=True)
    best = {space: max(row, key=lambda length: row[length]) for space, row in rates.items()}
    most = {space: rates[space][best[space]] for space in SPACES}
    rhat = {space: rhats[space][best[space]] for space in SPACES}
    return {
        "ess_per_gradient": most
        | {
            "ratio": most["latent"] / most["data_space"],
            "ratio_coordinates": most["latent"] / most["coordinates"],
        },
        "rhat": rhat,
        "rhat_max": rhat["latent"],
        "lengths": rates,
    }


def one(fitted: FittedModel, length: int, seed: int, quick: bool) -> dict[str, tuple[float, float]]:
    """Effective draws per gradient, and the worst R-hat, in every space from the same start."""
    model = fitted.model
    budget = GRADIENTS // (10 if quick else 1)
    warmup = int(SHARE * budget / length)
    start_key, key = jr.split(jr.key(seed))
    u = jr.normal(start_key, (CHAINS, *model.backbone.latent_shape))
    starts = {
        "latent": u,
        "data_space": data_space_start(model, u, of_data=True),
        "coordinates": data_space_start(model, u),
    }
    densities = {
        "latent": model.latent_log_densities,
        "data_space": data_space_log_density(model, of_data=True),
        "coordinates": data_space_log_density(model),
    }
    found = {}
    for space in SPACES:
        draws = sample(
            key, densities[space], starts[space], num_warmup=warmup,
            num_draws=budget // length - warmup, kernel=HMC(num_leapfrogs=jnp.asarray(length)),
            step_size=fitted.step_size if space == "latent" else 0.02,
        )  # fmt: skip
        ess, rhat = worst(watched(model, space, draws.positions))
        found[space] = ess / (CHAINS * draws.gradients), rhat
    return found


@eqx.filter_jit
def watched(model: TiltedModel, space: str, positions: jax.Array) -> jax.Array:
    """u and y of draws `[chains, draws, ...]` of one of the spaces, side by side."""

    def both(position: jax.Array) -> jax.Array:
        if space == "latent":
            return jnp.concatenate([position, model.backbone.coordinates(position)])
        y = model.backbone.units.encode(position) if space == "data_space" else position
        return jnp.concatenate([model.backbone.inverse(y)[0], y])

    return jax.vmap(jax.vmap(both))(positions)


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
        for space, rhat in results["rhat"].items():
            words = f"{1e3 * found[space]:.3f} per 1,000 gradients, worst R-hat {rhat:.3f}"
            aim = "R-hat at most 1.01" if space == "latent" else ""
            table.add_row(f"worst effective size, {space.replace('_', ' ')}", words, aim)
        table.add_row("latent to data space", f"{found['ratio']:.1f}", "at least 25")
        table.add_row("latent to coordinates", f"{found['ratio_coordinates']:.1f}", "")
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
