"""S8: one head that classifies, rejects and generates (Bao, Qi and Kong 2023, 2309.10711).

A generator whose encoder knows the classes, learned once and kept; then a class tilt of its latent,
f(z) = logsumexp of logits: p(z, k) ∝ exp(F_k(z)) q(z), by contrast and cross-entropy. Unknown
classes are told by f(z) alone, as was decided before anything was measured.

    python examples/systems/s08_open_set.py [--quick] [--seed S] [--json FILE]
"""

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from features import as_claims, classifier, told_apart
from images import task
from supervised_vae import supervised_vae
from table import Claim, finish, parser

from tiltflow import TiltedModel
from tiltflow.backbones import Prior
from tiltflow.backbones.vae import VAESizes
from tiltflow.evaluation.classified import class_log_probs, classified
from tiltflow.evaluation.likelihood import score
from tiltflow.evaluation.outliers import of_logits
from tiltflow.learning import Rows, TiltSettings
from tiltflow.learning.nce import fit_nce
from tiltflow.mcmc import sample
from tiltflow.model.classes import of_class
from tiltflow.model.kernels import kernel_of
from tiltflow.model.log_normalizer import log_normalizer
from tiltflow.normalizer import gain
from tiltflow.tilts import ClassTilt

KNOWN, UNKNOWN = 6, "unknown classes"
FULL = {
    "names": ("fashion_mnist", "mnist"),
    "rows": {"train": 12_000, "test": 2_000},
    "vae": VAESizes(z_dim=32, width=256, scalar_noise=True),
    "classifier": {"width": 256, "features": 32, "steps": 1_500},
    "head": {"width": 128, "steps": 1_500},
    "pass": {"accuracy": 0.01, "ahead": 0.0, "elbo": 0.1, "gain": 2.0, "drawn": 0.8},
}
QUICK = {
    "names": ("digits",),
    "rows": {"train": 700, "test": 300},
    "vae": VAESizes(z_dim=8, width=64, scalar_noise=True),
    "classifier": {"width": 64, "features": 8, "steps": 1_500},
    "head": {"width": 32, "steps": 1_000},
    "pass": {"accuracy": 0.05, "ahead": -0.1, "elbo": -0.1, "gain": 0.5, "drawn": 0.7},
}


def head(backbone: Prior, train: Rows, val: Rows, width: int, steps: int, seed: int) -> Any:
    """The class tilt of z: rows and labels together, by contrast with the prior."""
    tilt = ClassTilt(backbone.dim, KNOWN, width=width, key=jr.key(seed))
    settings = TiltSettings(nce_steps=steps, batch_data=256, rate=1e-3, memory=0.995)
    return fit_nce(backbone, tilt, train, val, settings, key=jr.key(seed + 1))[0]


def drawn(model: TiltedModel, seed: int, chains: int = 64) -> np.ndarray:
    """Images of each class, `[KNOWN, chains, pixels]`: the ends of latent chains of that class."""

    def ends(label: int) -> jax.Array:
        one, keys = of_class(model, label), jr.split(jr.key(seed + label))
        start = jr.normal(keys[0], (chains, model.backbone.dim))
        found = sample(keys[1], one.latent_log_densities, start, num_draws=1, num_warmup=100,
                       kernel=kernel_of(one, "hmc", 8), step_size=0.1)  # fmt: skip
        return jax.vmap(model.backbone.expected)(jnp.asarray(found.positions[:, -1]))

    return np.stack([np.asarray(ends(label)) for label in range(KNOWN)])


def split(name: str, sizes: dict[str, Any], seed: int, broken: bool = False) -> dict[str, Any]:
    """All numbers of one set; `broken`: the head learns labels of other rows."""
    data, key = task(name, KNOWN, seed=seed, **sizes["rows"]), jr.key(seed)
    network = classifier(data, seed=seed, **sizes["classifier"])
    steps = sizes["classifier"]["steps"]
    backbone = Prior(supervised_vae(data, KNOWN, sizes["vae"], steps=steps, seed=seed))
    labels = data.train_labels
    if broken:
        labels = np.random.default_rng(seed).permutation(labels)
    tenth = len(labels) // 10
    val, train = (
        Rows(data.train[part], backbone.units, False, labels=labels[part])
        for part in (slice(tenth), slice(tenth, None))
    )
    model = TiltedModel(backbone, head(backbone, train, val, **sizes["head"], seed=seed))
    test = Rows(data.test, backbone.units, False)

    def scores(images: np.ndarray) -> dict[str, np.ndarray]:
        found = score(model, Rows(images, backbone.units, False), key, draws=4)
        logits = jax.vmap(lambda x: network.logits(network.features(x)))(jnp.asarray(images))
        of_z = {"f": -found.f.mean(axis=1), "bound": -found.log_q.mean(axis=1)}
        return of_z | of_logits(np.asarray(logits, np.float64))

    told = told_apart(scores(data.test), scores(data.out[UNKNOWN]))
    plain = jax.vmap(lambda x: network.logits(network.features(x)))
    images = drawn(model, seed)
    right = np.asarray(plain(jnp.asarray(images.reshape(-1, data.test.shape[1])))).argmax(axis=1)
    found = score(model, test, key, draws=4)
    return {
        "classes": classified(class_log_probs(model, test, key), data.test_labels),
        "plain": float(np.mean(np.asarray(plain(data.test)).argmax(axis=1) == data.test_labels)),
        "auroc": {one: judged.auroc.value for one, judged in told.items()},
        "gain": gain(found.f, log_normalizer(model, key=jr.key(seed + 5), exact_draws=20_000)),
        "drawn": float(np.mean(right == np.repeat(np.arange(KNOWN), images.shape[1]))),
    }


def claims(found: list[dict[str, Any]], least: dict[str, float]) -> list[Claim]:
    """The table: the worst set of what is sharp, means over sets of AUROC."""
    mean = {one: float(np.mean([f["auroc"][one] for f in found])) for one in found[0]["auroc"]}
    worst = min(found, key=lambda one: one["classes"].accuracy.mean - one["plain"])
    accuracy, plain, f = worst["classes"].accuracy.mean, worst["plain"], mean["f"]
    softmax, bound, drawn = mean["max softmax"], mean["bound"], min(o["drawn"] for o in found)
    rows = [
        ("accuracy; a classifier's", plain, accuracy, plain - least["accuracy"]),
        ("calibration error", None, max(o["classes"].calibration_error for o in found), None),
        ("AUROC of f less that of max softmax (baseline)", softmax, f - softmax, least["ahead"]),
        ("AUROC of f less that of the bound (baseline)", bound, f - bound, least["elbo"]),
        ("AUROC of f; of the energy of logits", mean["energy"], f, None),
        ("gain over the prior, nats", 0.0, min(o["gain"].mean for o in found), least["gain"]),
        ("draws of a class that are recognised", 1 / KNOWN, drawn, least["drawn"]),
    ]
    return as_claims("S8", rows)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 where a threshold is not reached."""
    arguments, started = parser(__doc__).parse_args(argv), time.monotonic()
    sizes = QUICK if arguments.quick else FULL
    found = [split(name, sizes, arguments.seed) for name in sizes["names"]]
    return finish(claims(found, sizes["pass"]), arguments, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
