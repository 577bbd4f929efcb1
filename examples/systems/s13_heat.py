"""S13: HEAT, a mixture on features corrected by an energy, then scores added (Lafon et al. 2023).

arXiv 2305.16966. q is the mixture of class means with one covariance on the features of a
classifier, and f what a network adds to it: temperature 1, where the paper divides log q by 1,000,
and exact draws of q as negatives. Scores are then put on one scale by training rows, and added.

    python examples/systems/s13_heat.py [--quick] [--seed S] [--json FILE]
"""

import sys
import time
from typing import Any

import jax.random as jr
import numpy as np
from features import Featured, as_claims, classifier, featured, told_apart
from images import omniglot, task
from table import Claim, finish, parser

from tiltflow import TiltedModel
from tiltflow.evaluation.assess import known
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.evaluation.enough import enough_chains
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.early_stopping import silent
from tiltflow.learning.nce import fit_nce
from tiltflow.model.log_normalizer import from_exact
from tiltflow.normalizer import gain
from tiltflow.tilts import Frozen, MLPTilt, Sum

CLASSES = 10
FULL = {
    "rows": {"name": "fashion_mnist", "train": 12_000, "test": 2_000},
    "classifier": {"width": 256, "features": 32, "steps": 1_500},
    "residual": {"width": 128, "steps": 1_500},
    "sampling": SamplingSettings(chains=32, draws=1_500, warmup=200, exact_draws=20_000),
    "omniglot": 2_000,
    "pass": {"ratio": 0.9, "lead": 0.0, "slack": 0.0},
}
QUICK = {
    "rows": {"name": "digits", "train": 1_100, "test": 400},
    "classifier": {"width": 64, "features": 8, "steps": 500},
    "residual": {"width": 64, "steps": 750},
    "sampling": SamplingSettings(chains=32, draws=200, warmup=50, exact_draws=5_000),
    "omniglot": 0,
    "pass": {"ratio": 1.05, "lead": -0.05, "slack": 0.05},
}


def residual(seen: Featured, width: int, steps: int, seed: int, broken: bool = False) -> Sum:
    """f beside the mixture, by contrast with its draws; `broken`: columns of other rows."""
    network = MLPTilt(seen.backbone.dim, width=width, dropout=0.1, key=jr.key(seed))
    train = seen.train
    if broken:
        rng = np.random.default_rng(seed)
        train = Rows(rng.permuted(train.array(), axis=0), train.units, False)
    settings = TiltSettings(nce_steps=steps, batch_data=256, rate=1e-3, memory=0.995)
    how = {"settings": settings, "key": jr.key(seed + 1)}
    return fit_nce(seen.backbone, Sum(Frozen(seen.mixture), network), train, seen.val, **how)[0]


def added(scores: dict[str, np.ndarray], usual: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """HEAT first, its parts, and sums of what has mean 0 and variance 1 over usual rows."""

    def scaled(name: str) -> np.ndarray:
        return (scores[name] - usual[name].mean()) / usual[name].std()

    return {
        "HEAT": scores["tilted"],
        "mixture": scores["log q"],
        "f alone": scores["f alone"],
        "HEAT + energy": scaled("tilted") + scaled("energy"),
        "mixture + energy": scaled("log q") + scaled("energy"),
        "50-NN": scores["50-NN"],
        "energy": scores["energy"],
        "max softmax": scores["max softmax"],
    }


def measured(sizes: dict[str, Any], seed: int, broken: bool = False) -> dict[str, Any]:
    """All numbers."""
    data = task(known=CLASSES, seed=seed, **sizes["rows"])
    if number := sizes["omniglot"]:
        data.out["Omniglot"] = omniglot(number, seed)
    seen = featured(data, classifier(data, seed=seed, **sizes["classifier"]), seed=seed)
    tilt = residual(seen, **sizes["residual"], seed=seed, broken=broken)
    model, keys = TiltedModel(seen.backbone, tilt), jr.split(jr.key(seed), 2)
    draws, mixed = enough_chains(model, sizes["sampling"], keys[0], silent)
    log_z = from_exact(model, np.asarray(draws.positions), 20_000, keys[1])
    usual, inside = seen.scores(tilt, "val"), seen.scores(tilt, "in")
    return {
        "gain": gain(-inside["f alone"], log_z),
        "verdict": mixed.verdict([known(log_z)]),
        "sets": {
            name: told_apart(added(inside, usual), added(seen.scores(tilt, name), usual))
            for name in data.out
        },
    }


def claims(found: dict[str, Any], asked: dict[str, float]) -> list[Claim]:
    """The table: means over the sets that are out, and each set's own numbers."""
    sets = found["sets"]

    def mean(score: str, measure: str = "fpr95") -> float:
        return float(np.mean([getattr(told[score], measure).value for told in sets.values()]))

    behind = [told["mixture"].behind["fpr95"].low for told in sets.values()]
    both, plain, nearest = (mean(s) for s in ("HEAT + energy", "mixture + energy", "50-NN"))
    heat, mixture = mean("HEAT"), mean("mixture")
    areas = mean("50-NN", "auroc"), mean("HEAT + energy", "auroc")
    rows = [
        (
            "FPR95 over the mixture's (baseline)",
            mixture,
            heat / max(mixture, 1e-9),
            asked["ratio"],
            False,
        ),
        ("its paired lead, lower end, mean of sets", 0.0, float(np.mean(behind)), asked["lead"]),
        ("FPR95 of HEAT + energy; mixture + energy", plain, both, plain + asked["slack"], False),
        ("FPR95 of HEAT + energy; 50-NN", nearest, both, nearest + asked["slack"], False),
        ("gain over the mixture, nats, lower end", 0.0, found["gain"].low, 0.0),
        ("verdict ok", None, float(found["verdict"]["status"] == "ok"), 1.0),
        ("AUROC of HEAT + energy; 50-NN", *areas, None),
    ]
    for name, told in sets.items():
        fpr = {score: one.fpr95.value for score, one in told.items()}
        rows += [
            (f"{name}: FPR95 of {score}; mixture", fpr["mixture"], fpr[score], None)
            for score in ("HEAT", "f alone", "HEAT + energy", "50-NN", "max softmax")
        ]
    return as_claims("S13", rows)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 where a threshold is not reached."""
    arguments, started = parser(__doc__).parse_args(argv), time.monotonic()
    sizes = QUICK if arguments.quick else FULL
    found = measured(sizes, arguments.seed)
    print(found["verdict"]["text"])
    return finish(claims(found, sizes["pass"]), arguments, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
