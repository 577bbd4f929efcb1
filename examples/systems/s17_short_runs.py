"""S17: effects of non-convergent sampling (Agoritsas, Catania, Decelle, Seoane 2023).

arXiv 2301.09428: a model that is learned with chains of k transitions, begun anew each time, is
right after k transitions and not in equilibrium. Part one is exact: over N(0, I) the tilt
f(x) = x'Ax / 2 makes a normal density of precision J = I - A, and k unadjusted Langevin transitions
of size h leave, with r = 1 - hJ, the variance C_k(J) = r^(2k) + 2h (1 - r^(2k)) / (1 - r^2). The
learner finds the J with C_k(J) = c, the data's variance; where c > 1 + 2hk that is negative, and
there is no density at all. Part two: ten principal components of the digits, a network.
"""

import sys
import time
import warnings
from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from table import Claim, finish, parser

from tiltflow.backbones import Gaussian
from tiltflow.backbones.units.scale import identity
from tiltflow.data import Dataset
from tiltflow.evaluation.assess import LikelihoodSettings, assess
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.evaluation.drift import drift
from tiltflow.learning import Rows, TiltSettings, fit_tilt
from tiltflow.learning.short_run import ShortRun
from tiltflow.model.fitted import FittedModel
from tiltflow.model.short_run import Protocol
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.annealed import LadderSettings
from tiltflow.tilts import MLPTilt, Tilt

VARIANCES = np.array([0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
STEP = 0.2  # of a transition: h is half its square
LONG = {"iterations": 100, "judge_every": 10**6}
SAMPLING = SamplingSettings(chains=64, draws=400, warmup=200, exact_draws=50_000, at_most=1)


class Quadratic(Tilt):
    matrix: Float[Array, "dim dim"]
    level: Float[Array, ""]

    def __call__(self, c, key=None):
        return 0.5 * c @ self.matrix @ c - self.level


def variance_after(k: int, precision: np.ndarray, h: float = STEP**2 / 2) -> np.ndarray:
    """C_k(J)."""
    r = 1 - h * precision + 1e-12
    return r ** (2 * k) + 2 * h * (1 - r ** (2 * k)) / (1 - r**2)


def predicted(k: int, variances: np.ndarray) -> np.ndarray:
    """The precisions that short runs of k transitions learn, by bisection."""
    low, high = np.full(len(variances), -20.0), np.full(len(variances), 1 / STEP**2)
    for _ in range(60):
        middle = (low + high) / 2
        too_wide = variance_after(k, middle) > variances
        low, high = np.where(too_wide, middle, low), np.where(too_wide, high, middle)
    return middle


def learned(rows: Rows, tilt: Tilt, settings: TiltSettings, stage, seed: int) -> TiltedModel:
    """A tilt of N(0, I); `stage` None: by the learner that the settings name."""
    flow = Gaussian(rows.units)
    some, key = rows.first(500), jr.key(seed)
    return TiltedModel(flow, fit_tilt(flow, tilt, rows, some, settings, key=key, stage=stage)[0])


def verdict(model: TiltedModel, rows: Rows, protocol: Protocol | None, seed: int) -> str:
    """Of the likelihood of rows."""
    log_z = LogZ(0.0, 0.0, 0.0, 0.0, "none", 1.0)
    fitted = FittedModel(model, None, log_z, False, 0.1, 8, protocol=protocol)
    how = LikelihoodSettings(sampling=SAMPLING, ladder=LadderSettings(most_rounds=2, budget=30))
    data = Dataset("rows", np.asarray(rows.array()[:500]), False)
    return assess(fitted, data, how, seed=seed)["verdict"]["status"]


def exact(k: int, steps: int, chains: int, seed: int, start: str = "noise") -> dict[str, float]:
    """Part one: what was learned beside what was predicted, and variances after k and 2k."""
    normal = np.random.default_rng(seed).standard_normal((20_000, 7))
    basis = np.linalg.qr(normal[:7])[0]
    x = PCA(whiten=True).fit_transform(normal)  # its covariance is the identity, exactly
    x = np.asarray(x * np.sqrt(VARIANCES) @ basis.T, np.float32)
    rows, short = Rows(x, identity((7,)), False), ShortRun(Protocol(k, STEP, start))
    settings = replace(
        short.settings, **LONG, steps=steps, particles=2 * chains, batch_data=4 * chains, rate=0.1,
        final_rate=0.01, decay=0.0, memory=0.995,
    )  # fmt: skip
    model = learned(rows, Quadratic(jnp.zeros((7, 7)), jnp.zeros(())), settings, short.stage, seed)
    matrix = np.asarray(model.tilt.matrix, np.float64)
    found, truth = 1 - np.diag(basis.T @ (matrix + matrix.T) @ basis) / 2, predicted(k, VARIANCES)
    u = jr.normal(jr.key(seed + 1), (20_000, 7))
    ends = [Protocol(t, STEP).run(model, u, jr.key(2)) @ basis for t in (k, 2 * k)]
    at, later = (float(np.sqrt(np.mean((x.var(axis=0) / VARIANCES - 1) ** 2))) for x in ends)
    failed = verdict(model, rows, short.protocol, seed) == "failed"
    apart = float(np.max(np.abs(found / truth - 1)[truth > -1]))
    signs = float(np.mean(np.sign(found) == np.sign(truth)))
    return {"apart": apart, "signs": signs, "at": at, "later": later, "failed": failed}


def digits(k: int, steps: int, seed: int) -> dict[str, float]:
    """Part two: mean f of chains at k and in equilibrium, beside that of the rows, in nats."""
    x = PCA(10, whiten=True).fit_transform(load_digits().data)
    x = x[np.random.default_rng(0).permutation(len(x))[:1_300]]
    train = Rows(np.asarray(x, np.float32), identity((10,)), False)
    network, short = MLPTilt(10, width=128, key=jr.key(seed)), ShortRun(Protocol(k, STEP))
    sizes = {"steps": steps, "particles": 1_024, "batch_data": 512}
    settings = replace(short.settings, **LONG, **sizes, rate=1e-3)
    runs = learned(train, network, settings, short.stage, seed)
    population = learned(train, network, TiltSettings(**sizes), None, seed)
    many, key = replace(SAMPLING, chains=256, draws=800), jr.key(seed + 1)
    own = drift(runs, train, many, STEP, key, protocol=short.protocol)
    long, right = (drift(model, train, many, 0.1, key) for model in (runs, population))
    ratio = abs(own.apart[own.transitions == k][0] / long.apart[-1])
    named = long.passes and verdict(runs, train, short.protocol, seed) != "ok"
    errors = max(right.apart / np.hypot(right.f_error, right.f_data_error))
    return {"ratio": float(ratio), "named": float(named), "right": float(errors)}


def main() -> int:
    arguments = parser(__doc__).parse_args()
    seed, steps, started = arguments.seed, 100 if arguments.quick else 2_000, time.perf_counter()
    warnings.simplefilter("ignore")
    long, short = (exact(k, steps, steps, seed) for k in (50, 10))
    images = digits(5, steps // 2, seed)
    both, ratio = float(long["failed"] and short["failed"]), images["ratio"]
    rows = [
        ("J over what is predicted, off 1, k = 50, above J = -1", None, long["apart"], 0.05, False),
        ("the same, k = 10", None, short["apart"], 0.05, False),
        ("signs of J right, share", None, min(long["signs"], short["signs"]), 1.0),
        ("variances after k = 50, relative error", None, long["at"], 0.03, False),
        ("variances after 2k = 100", long["at"], long["later"], 0.5),
        ("verdicts on k = 50 and k = 10 are failed", None, both, 1.0),
        ("digits, k = 5: f off the data's at k, over the end's", 1.0, ratio, 0.2, False),
        ("the drift report names it, and the verdict is not ok", None, images["named"], 1.0),
        ("population: f above the data's, errors, at most", None, images["right"], 2.5, False),
    ]
    claims = [Claim("S17", *row) for row in rows]
    return finish(claims, arguments, time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
