"""How often the 95% interval of `tiltflow.posterior` for log Z holds the truth, over many seeds.

    python benchmarks/posterior_coverage.py --seeds 50 --json coverage.json
    python benchmarks/posterior_coverage.py --targets bent --seeds 20
    python benchmarks/posterior_coverage.py --json coverage.json  # stopped? it goes on

Small closed forms, a small budget of evaluations: what is looked at is the interval, not the cost.
A run that says so itself (caution, failed) counts apart. With n seeds the coverage is known to
about sqrt(0.05 * 0.95 / n).
"""

import argparse
import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import tiltflow

LOG_2PI = math.log(2 * math.pi)
MEANS = np.array([[-4.0, 0.0, 0.0], [4.0, 1.0, 0.0]])


def bent(x):
    return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - 0.5 * x[0] ** 2) / 0.5) ** 2


def two_modes(x):
    each = -0.5 * jnp.sum((x - MEANS) ** 2, axis=-1) + jnp.log(jnp.array([0.3, 0.7]))
    return jax.nn.logsumexp(each)


def tailed(x):
    return -2.5 * jnp.sum(jnp.log1p(x**2 / 4))


def skew(p, rate):
    return jnp.log(p) + 3 * jnp.log1p(-p) + 2 * jnp.log(rate) - 1.5 * rate


def extremes(x):
    return jnp.sum(x - jnp.exp(x))


def shares(w):
    return jnp.sum(jnp.array([1.0, 2.0, 4.0]) * jnp.log(w))


LOG_T = math.lgamma(2) - math.lgamma(2.5) + 0.5 * math.log(4 * math.pi)
GAMMAS = math.lgamma(2) + math.lgamma(4) - math.lgamma(6) + math.lgamma(3) - 3 * math.log(1.5)
DIRICHLET = math.lgamma(2) + math.lgamma(3) + math.lgamma(5) - math.lgamma(10)
BOUNDED = {"p": tiltflow.Interval(0, 1), "rate": tiltflow.Positive()}
TARGETS = {
    "bent": (bent, 2, LOG_2PI + math.log(0.5)),
    "two modes": (two_modes, 3, 1.5 * LOG_2PI),
    "t of 4": (tailed, 3, 3 * LOG_T),
    "bounded": (skew, BOUNDED, GAMMAS),
    "extremes": (extremes, 3, 0.0),
    "shares": (shares, {"w": tiltflow.Simplex(3)}, DIRICHLET),
}
"""The density, its parameters, and log Z."""


def start_of(name, seed):
    rng = np.random.default_rng(1_000 + seed)
    if name == "bounded":
        return {"p": rng.uniform(size=400), "rate": rng.exponential(3, 400)}
    if name == "shares":
        return {"w": rng.dirichlet(np.ones(3), 400)}
    return 5 * rng.standard_normal((400, TARGETS[name][1]))


def measured(name, seed, evaluations):
    """One run, in plain values."""
    function, parameters, truth = TARGETS[name]
    begun = time.process_time()
    post = tiltflow.posterior(
        function, parameters, start=start_of(name, seed), evaluations=evaluations,
        seconds=None, log_z_within=0.05, draws=1_000, seed=seed, tell=lambda line: None,
    )  # fmt: skip
    z = post.log_z
    return {
        "target": name, "seed": seed, "off": z.mean - truth,
        "stated": z.standard_error, "covers": bool(z.low <= truth <= z.high),
        "bounds": bool(z.lower <= truth <= z.upper), "verdict": post.verdict.status,
        "broken": [f"{c.name} {c.value:.3g}" for c in post.verdict.broken],
        "cpu": time.process_time() - begun, "evaluations": post.budget.used,
    }  # fmt: skip


def told(name, runs):
    """How often the intervals of runs that are not doubted hold the truth, in a line."""
    trusted = [run for run in runs if run["verdict"] in ("ok", "draw more")]
    ratio = np.array([run["off"] / run["stated"] for run in trusted])
    return (
        f"{name:>10}: {sum(run['covers'] for run in trusted)} of {len(trusted)} intervals hold the "
        f"truth, {sum(run['bounds'] for run in trusted)} bounds do, {len(runs) - len(trusted)} runs"
        f" doubted; error over stated error {math.sqrt(np.mean(ratio**2)):.2f} (root mean square), "
        f"{ratio.mean():+.2f} (mean)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--evaluations", type=int, default=60_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    kept = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    before = {(run["target"], run["seed"]): run for run in kept}
    for name in given.targets:
        runs = []
        for seed in range(given.first, given.first + given.seeds):
            run = before.get((name, seed))
            if run is None:
                run = measured(name, seed, given.evaluations)
                kept.append(run)
                if given.json:
                    given.json.write_text(json.dumps(kept, indent=1))
            runs.append(run)
        print(told(name, runs), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
