"""How often the 95% interval of `tiltflow.posterior` for log Z holds the truth, over many seeds.

    python benchmarks/posterior_coverage.py --seeds 50 --json coverage.json
    python benchmarks/posterior_coverage.py --targets bent --seeds 20

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--evaluations", type=int, default=60_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    runs = []
    for name in given.targets:
        function, parameters, truth = TARGETS[name]
        for seed in range(given.first, given.first + given.seeds):
            begun = time.process_time()
            post = tiltflow.posterior(
                function, parameters, start=start_of(name, seed), evaluations=given.evaluations,
                seconds=None, log_z_within=0.05, draws=1_000, seed=seed, tell=lambda line: None,
            )  # fmt: skip
            z = post.log_z
            runs.append(
                {
                    "target": name, "seed": seed, "off": z.mean - truth,
                    "stated": z.standard_error, "covers": bool(z.low <= truth <= z.high),
                    "bounds": bool(z.lower <= truth <= z.upper), "verdict": post.verdict.status,
                    "cpu": time.process_time() - begun, "evaluations": post.budget.used,
                }
            )  # fmt: skip
            if given.json:
                given.json.write_text(json.dumps(runs, indent=1))
        trusted = [r for r in runs if r["target"] == name and r["verdict"] in ("ok", "draw more")]
        ratio = np.array([r["off"] / r["stated"] for r in trusted])
        print(
            f"{name:>10}: {sum(r['covers'] for r in trusted)} of {len(trusted)} intervals hold the "
            f"truth, {given.seeds - len(trusted)} runs doubted; error over stated error "
            f"{math.sqrt(np.mean(ratio**2)):.2f} (root mean square)",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
