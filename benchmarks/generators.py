"""A VAE of images, tilted in its latent: what the tilt gains in nats, and in what is seen.

    python benchmarks/generators.py FASHION.npz [--json FILE] [--seed 0] [--two-tilts] [--quick]

FASHION holds `x_train` and `x_test`, images `[rows, 28, 28]` of Fashion-MNIST. Runs what
`tiltflow fit FASHION.npz --backbone vae` runs, and prints its `metrics.json` under the keys below.
Distances are Frechet distances on the features of the embedded classifier, between the decoder's
means, without its noise, and test images, at most 5,000 of each; the floor is that of training
images. The final chains start dispersed: half from the prior, half at three times its width.

--two-tilts runs `tiltflow fit FASHION.npz --backbone vae --network conv --data-tilt 64
--backbone-steps 4000`: convolutions, and a second tilt that reads the pixels.

Keys of the JSON: {backbone,tilted}.{frechet,floor,class_share_min,class_share_max}, frechet_ratio,
gain.{bridge,annealed,low,high}, stages.{latent,data}.{mean,low,high} (of two tilts),
noise.{backbone,tilted}, rhat_z_max (of all of z, and of the noise of two tilts), verdict, seconds.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import tiltflow
from tiltflow.data import load, split
from tiltflow.fitting.settings import Settings, suited_vae

AIMS = {
    "frechet_ratio": "at most 0.2",
    "tilted.class_share_min": "at least 0.07",
    "tilted.class_share_max": "at most 0.13",
    "gain.bridge": "at least 15",
    "gain.annealed": "within 0.3 of the bridge",
    "rhat_z_max": "at most 1.05",
    "seconds": "at most 1800",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--two-tilts", action="store_true", help="one of the pixels on top")
    parser.add_argument("--quick", action="store_true", help="everything runs, little is learned")
    arguments = parser.parse_args()
    started = time.monotonic()
    data = load(str(arguments.fashion), key="x_train")
    settings = suited_vae(len(split(data).train), data.shape)
    settings = with_two(settings) if arguments.two_tilts else settings
    settings = quickly(settings) if arguments.quick else settings
    result = tiltflow.fit(data, settings, seed=arguments.seed, listen=show)
    found = told(result) | {"seconds": round(time.monotonic() - started, 1)}
    table = Table("", "", "aim", box=None)
    for key, value in flat(found):
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else value, AIMS.get(key, ""))
    Console(width=100).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def told(result: tiltflow.Result) -> dict[str, object]:
    """The numbers of `metrics.json`, by this benchmark's keys."""
    metrics = result.metrics
    seen = metrics["quality"]
    sets = {
        name: {
            "frechet": seen[name]["frechet"],
            "floor": seen["floor"]["frechet"],
            "class_share_min": seen[name]["class_share_min"],
            "class_share_max": seen[name]["class_share_max"],
        }
        for name in ("backbone", "tilted")
    }
    return sets | {
        "frechet_ratio": sets["tilted"]["frechet"] / sets["backbone"]["frechet"],
        "gain": {
            "bridge": metrics["annealed"]["gain_by_bridge"],
            "annealed": metrics["annealed"]["gain"],
            "low": metrics["gain_nats"]["low"],
            "high": metrics["gain_nats"]["high"],
        },
        "noise": metrics["noise"],
        **({"stages": metrics["stages"]} if "stages" in metrics else {}),
        "rhat_z_max": float(np.max(result.evidence["rhat_latent"])),
        "verdict": metrics["verdict"]["status"],
    }


def flat(found: dict, prefix: str = "") -> list[tuple[str, object]]:
    rows = []
    for key, value in found.items():
        rows += (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
        )
    return rows


def with_two(settings: Settings) -> Settings:
    """Convolutions, and a second tilt of the pixels."""
    vae = replace(settings.model.vae, network="conv")
    return replace(
        settings,
        model=replace(settings.model, vae=vae, data_width=64),
        vae=replace(settings.vae, steps=4_000),
    )


def quickly(settings: Settings) -> Settings:
    return replace(
        settings,
        vae=replace(settings.vae, steps=250),
        tilt=replace(settings.tilt, steps=50, particles=256, bank=5_000),
        data_tilt=replace(settings.data_tilt, steps=10, particles=128),
        sampling=replace(settings.sampling, chains=8, draws=50, exact_draws=10_000),
    )


def show(phase: str, event: str, **fields: object) -> None:
    if event in ("kept", "contrast", "health", "stopped"):
        Console(stderr=True).print(phase, event, fields)


if __name__ == "__main__":
    main()
