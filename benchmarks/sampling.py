"""What a transition costs over its gradients, and what the gradients cost: one table.

    python benchmarks/sampling.py [--json FILE] [--run RUN] [--leapfrogs 5] [--quick]

RUN is a folder made by `tiltflow fit digits --backbone coupling`. All programs are compiled, are
given the same latent density (its weights as arguments), the same starts and the same number of
chains, and are timed in turn in one process (`timing.py`).

Overhead: the time of HMC transitions over that of as many value-and-gradient products in a bare
compiled loop. `tiltflow` is the driver's own program, `mcmc.program.advance`, with keys, tuning,
tally, and the record of positions and energies; `tiltflow_step` is `hmc.step` in a loop;
`blackjax` is its HMC under `vmap`; `numpyro` its vectorised HMC. The peers record nothing. Those
that are not installed are skipped.

Gradient: multiply-adds of all layers, forward and backward to the input, times 2, a second, in
the bare loop; the ceiling is that rate for a large float32 matrix product in the same rounds.
Permutations and activations count as no work.

Keys of the JSON: overhead.{tiltflow,tiltflow_step,blackjax,numpyro}.{64,1024},
gradient.{64,1024}.{gflops,ceiling,share,microseconds}, leapfrogs.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.console import Console
from rich.table import Table
from sampling_programs import OVERHEADS, gradients
from timing import interleaved, ratio

from tiltflow.model.fitted import FittedModel
from tiltflow.model.loading import load_model
from tiltflow.model.tilted import TiltedModel

CHAINS = (64, 1024)
TRANSITIONS = {64: 100, 1024: 20}  # a call of a program
ROUNDS = 15
PRODUCT = 2048  # rows and columns of the matrix product
AIMS = {"overhead": 1.05, "share": 0.6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/digits"))
    parser.add_argument("--leapfrogs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, no more")
    arguments = parser.parse_args()

    fitted = load_model(arguments.run / "model")
    results = {"overhead": {}, "gradient": {}, "leapfrogs": arguments.leapfrogs}
    for chains in CHAINS:
        overhead, gradient = measured(fitted, chains, arguments.leapfrogs, arguments.quick)
        for name, value in overhead.items():
            results["overhead"].setdefault(name, {})[str(chains)] = value
        results["gradient"][str(chains)] = gradient
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def measured(
    fitted: FittedModel, chains: int, leapfrogs: int, quick: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Overheads by name, and the rate of the gradient, with so many chains."""
    transitions = TRANSITIONS[chains] // (5 if quick else 1)
    count = transitions * leapfrogs
    log_density = fitted.model.latent_log_densities
    start = jr.normal(jr.key(0), (chains, *fitted.model.backbone.latent_shape))

    programs = {"gradients": lambda: gradients(log_density, start, count), "product": product()}
    for name, make in OVERHEADS.items():
        program = make(fitted.model, start, fitted.step_size, leapfrogs, transitions)
        if program is None:
            print(f"{name} is not installed: skipped", flush=True)
        else:
            programs[name] = program
    seconds = interleaved(programs, rounds=3 if quick else ROUNDS)

    bare = seconds["gradients"]
    overhead = {name: ratio(seconds[name], bare) for name in OVERHEADS if name in seconds}
    rate = flops(fitted.model) * chains * count / bare / 1e9
    ceiling = 2 * PRODUCT**3 / seconds["product"] / 1e9
    return overhead, {
        "gflops": float(np.median(rate)),
        "ceiling": float(np.median(ceiling)),
        "share": ratio(rate, ceiling),
        "microseconds": float(np.median(bare)) / count * 1e6,
    }


def product() -> Callable[[], jax.Array]:
    """A large matrix product, compiled."""
    matrix = jr.normal(jr.key(1), (PRODUCT, PRODUCT))
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(matrix, matrix)


def flops(model: TiltedModel) -> int:
    """Of one chain's latent gradient: every weight is used once forward and once backward."""

    def is_linear(x: object) -> bool:
        return isinstance(x, eqx.nn.Linear)

    layers = [x for x in jax.tree.leaves(model, is_leaf=is_linear) if is_linear(x)]
    return 2 * 2 * sum(layer.weight.size for layer in layers)


def show(results: dict) -> None:
    """Print the table."""
    table = Table("", *(f"{chains} chains" for chains in CHAINS), "aim", box=None)
    for name, row in results["overhead"].items():
        aim = f"at most {AIMS['overhead']}" if name == "tiltflow" else ""
        table.add_row(f"{name}, over its gradients", *(f"{v:.3f}" for v in row.values()), aim)
    table.add_section()
    formats = {"microseconds": ".0f", "gflops": ".1f", "ceiling": ".1f", "share": ".0%"}
    for name, form in formats.items():
        row = (format(one[name], form) for one in results["gradient"].values())
        table.add_row(
            f"gradient, {name}", *row, f"at least {AIMS['share']:.0%}" if name == "share" else ""
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
