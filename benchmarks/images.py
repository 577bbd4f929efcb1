"""Images within a given time: a Glow, its convolutional tilt, and what both are worth.

    python benchmarks/images.py --data FILE [--json FILE] [--save FOLDER] [--minutes M] [--flips]
    python benchmarks/images.py --data FILE --judge FOLDER --minutes M [--json FILE]

FILE holds `x_train` and `x_test`, images of bytes `[rows, height, width]` or with channels last,
as Fashion-MNIST and CIFAR-10 are. Two thirds of the time go to learning (`images_learned.py`), the
rest to the judgement by chains that are started afresh (`images_judged.py`). 60 minutes are meant
for two cores; with a few, which it exceeds, it is a look at whether all works.
`--save` is for the model, which `tiltflow.load_model` takes, and `--judge` judges it once more, in
all of the time.

Keys of the JSON: backbone.{bpd,steps,images_per_second}, tilted.{bpd,low,high},
gain_nats.{ladder,bridge,replicas,low,high} and whether each holds,
learning.{steps,gain_val_by_witnesses,scale,looks}
(looks: seconds, the gain as learning told it, and by fresh chains, the scale they ask for, and by
how much it raises the gain),
f_gap.{chains,expected} (mean f of fresh chains, and of training images, over that of test images),
rhat.{u,f,projections}, rhat_latent_hmc and rhat_data_space.{f,projections},
class_share.{min,max,each}, ess_ratio, acceptance,
ess_per_1000_gradients.{latent,latent_hmc,data_space}.{f,projections}, barrier,
betas, transitions, gradients_per_second, seconds, peak_bytes, minutes.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from images_judged import LEAPFROGS, judge
from images_learned import learned
from rich.console import Console
from rich.table import Table

from tiltflow.fitting.recipes import specification, units_for
from tiltflow.fitting.settings import suited_glow
from tiltflow.learning import Rows
from tiltflow.model.fitted import FittedModel
from tiltflow.model.loading import load_model

VALIDATION = 2_000  # rows of the training images
ENDED = 0.91  # of all the time, by when chains have ended; what else is judged takes some minutes

AIMS = {
    "backbone.bpd": "at most 3.50 after 60 minutes",
    "gain_nats.ladder": "at least 8",
    "gain_nats.bridge": "within 0.5 of the ladder's",
    "f_gap.chains": "at most 1 over the expected",
    "rhat.u": "at most 1.02",
    "rhat.f": "at most 1.05",
    "rhat.projections": "at most 1.05",
    "class_share.min": "at least 0.05",
    "class_share.max": "at most 0.15",
    "ess_ratio": "at least 10",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--save", type=Path, help="a folder for the model")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--flips", action="store_true", help="mirrored images, for the flow")
    parser.add_argument("--judge", type=Path, help="a folder of --save: only judge its model")
    arguments = parser.parse_args()
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)  # an hour from now would be late
    began = time.monotonic()
    whole = 60 * arguments.minutes
    with np.load(arguments.data) as arrays:
        images, held_out = arrays["x_train"], arrays["x_test"]
    settings = suited_glow(len(images) - VALIDATION, images.shape[1:])
    settings = replace(settings, backbone=replace(settings.backbone, flips=arguments.flips))
    units = units_for(settings.model, images, integers=True, limits=(0, 255))
    train, val, test = (
        Rows(jnp.asarray(x), units, integers=True)
        for x in (images[:-VALIDATION], images[-VALIDATION:], held_out)
    )
    spec = specification(settings.model, units)
    if arguments.judge:
        model, told = load_model(arguments.judge).model, {}
    else:
        model, told = learned(spec, train, val, settings, began, whole)
    found, log_z, step_size = judge(model, train, test, until=began + ENDED * whole)
    found["backbone"] |= told.pop("backbone", {})
    found |= told
    found["minutes"] = arguments.minutes
    found["seconds"] = round(time.monotonic() - began, 1)
    found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.save:
        FittedModel(model, spec, log_z, True, step_size, LEAPFROGS).save(arguments.save)


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("", "", "aim", box=None)
    for name, value in flat(found):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, AIMS.get(name, ""))
    Console(width=100).print(table)


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested keys joined with dots."""
    rows = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        elif value is not None and not isinstance(value, list):
            rows.append((f"{prefix}{name}", value))
    return rows


if __name__ == "__main__":
    main()
