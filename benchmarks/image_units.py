"""Which units suit a Glow of images: held-out bits, a Fréchet distance, and draws to look at.

    python benchmarks/image_units.py --data FILE [--units A,B] [--rows N] [--steps N] [--halved]

FILE holds `x_train` and `x_test`, images of bytes `[rows, 28, 28]`, as Fashion-MNIST. The same Glow
of `fit --backbone glow` makes the same steps on the same images in each of the units: `auto`, what
`fit` takes; `logit`, one logit for all pixels; `gaussianise`, each pixel through its own histogram.
`--halved` makes 14 x 14 pixels of means of four. Fréchet distances are on the features of the
embedded classifier (halved images doubled for it). `--sheet FILE.png` has draws of each, in a row,
at the same latent points; `columns` are independent pixels, by histograms.

Keys of the JSON: NAME.{bpd,nats,frechet,black,seconds}, of `data` black and the Fréchet distance of
as many training images; columns.bpd.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.console import Console
from rich.table import Table

from tiltflow.backbones import Flow, Glow
from tiltflow.backbones.units import Units, fit_logit_scale, fit_units
from tiltflow.evaluation.likelihood import bits_per_dim
from tiltflow.evaluation.quality.features import fashion_mnist
from tiltflow.evaluation.quality.frechet import between, moments
from tiltflow.evaluation.simple_models import simple_models
from tiltflow.fitting.recipes import learn_backbone, units_for
from tiltflow.fitting.settings import suited_glow
from tiltflow.learning import Rows
from tiltflow.learning.fit_backbone import nll_of
from tiltflow.learning.keeping import KeepsNothing

NAMES = ("auto", "logit", "gaussianise")
VALIDATION, TEST, DRAWS, SHOWN = 1_000, 2_000, 2_000, 16
LIMITS = (0.0, 255.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--units", default=",".join(NAMES), help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--halved", action="store_true")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with np.load(given.data) as arrays:
        x, test = arrays["x_train"][: given.rows + VALIDATION], arrays["x_test"][:TEST]
    if given.halved:
        x, test = halved(x), halved(test)
    train, val = x[: given.rows], x[given.rows :]
    real, found, sheets = features_of(test), {}, []
    found["data"] = {"black": float(np.mean(test == 0)), "frechet": apart(real, train[:DRAWS])}
    rows = {"train": train, "val": val, "test": test}
    for model in simple_models({n: Rows(r, integers=True) for n, r in rows.items()}, seed=0):
        found[model.name] = {"bpd": bits_per_dim(-float(model.log_prob.mean()), test[0].size)}
    for name in given.units.split(","):
        began = time.monotonic()
        flow, nats = learned(units_of(name, train), train, val, test, given.steps)
        draws = drawn(flow)
        sheets.append(draws[:SHOWN])
        found[name] = {
            "bpd": bits_per_dim(nats, test[0].size),
            "nats": nats,
            "frechet": apart(real, draws),
            "black": float(np.mean(draws == 0)),
            "seconds": time.monotonic() - began,
        }
        print(name, json.dumps(found[name]), flush=True)
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n")
    show(found)
    if given.sheet:
        save(given.sheet, sheets)


def halved(x: np.ndarray) -> np.ndarray:
    """Means of squares of four pixels, rounded down."""
    rows, height, width = x.shape
    cut = x.reshape(rows, height // 2, 2, width // 2, 2)
    return np.floor(cut.mean(axis=(2, 4))).astype(np.uint8)


def units_of(name: str, train: np.ndarray) -> Units:
    """The units of that name."""
    if name == "auto":
        model = suited_glow(len(train), train.shape[1:]).model
        return units_for(model, train, integers=True, limits=LIMITS)
    if name == "logit":
        return fit_logit_scale(train, limits=LIMITS)
    return fit_units(name, train, integers=True, limits=LIMITS)


def learned(
    units: Units, train: np.ndarray, val: np.ndarray, test: np.ndarray, steps: int
) -> tuple[Flow, float]:
    """The Glow after so many steps, and nats of the test images."""
    settings = suited_glow(60_000, train.shape[1:])
    how = replace(settings.backbone, steps=steps, patience=steps, memory=0.99, val_draws=2)
    settings = replace(settings, backbone=how)
    rows = [Rows(jnp.asarray(x), units, integers=True) for x in (train, val, test)]
    flow, _ = learn_backbone(
        Glow(units, settings.model.glow, key=jr.key(0)), *rows[:2], settings, key=jr.key(1),
        listen=lambda *_, **__: None, keeper=KeepsNothing(),
    )  # fmt: skip
    assert isinstance(flow, Flow)
    return flow, nll_of(flow, rows[2], replace(how, val_rows=TEST), key=jr.key(2))


@eqx.filter_jit
def _pushed(flow: Flow, u: jax.Array) -> jax.Array:
    return jax.lax.map(flow.push, u, batch_size=200)


def drawn(flow: Flow) -> np.ndarray:
    """Draws, bytes, at the same latent points for every flow."""
    x = np.asarray(_pushed(flow, jr.normal(jr.key(3), (DRAWS, flow.dim))))
    return np.clip(np.floor(x), *LIMITS).astype(np.uint8)


def features_of(x: np.ndarray) -> Any:
    """Moments of the classifier's features."""
    doubled = np.kron(x, np.ones((1, 28 // x.shape[1], 28 // x.shape[2])))
    return moments(fashion_mnist()(doubled.astype(np.float32)))


def apart(real: Any, x: np.ndarray) -> float:
    """The Fréchet distance of images from the test images."""
    return float(between(real, features_of(x)))


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    names = ("bpd", "nats", "frechet", "black", "seconds")
    table = Table("", *names, box=None)
    for name, values in found.items():
        table.add_row(name, *(f"{values[n]:.4g}" if n in values else "" for n in names))
    Console(width=100).print(table)


def save(path: Path, sheets: list[np.ndarray]) -> None:
    """A picture with the draws of each units in a row."""
    from PIL import Image

    rows = [np.concatenate([np.pad(x, 1, constant_values=90) for x in each], 1) for each in sheets]
    image = Image.fromarray(np.concatenate(rows).astype(np.uint8))
    image.resize((3 * image.width, 3 * image.height), 0).save(path)


if __name__ == "__main__":
    main()
