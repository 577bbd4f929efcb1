"""Many small fits of tables of different size in one process, and what each has cost.

    python fits_worker.py FITS [--skewed]

prints a JSON list with an object for each fit: rows, kind of units, seconds, programs compiled,
seconds of that, memory maps and MiB of memory afterwards. `--skewed` has columns that become
histograms, of which some have power tails: units of two kinds, which are programs of two kinds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax import monitoring

COLUMNS = 4


class Compiled:
    """Programs that the backend has compiled, and seconds of that."""

    def __init__(self):
        self.number, self.seconds = 0, 0.0
        monitoring.register_event_duration_secs_listener(self)

    def __call__(self, event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            self.number, self.seconds = self.number + 1, self.seconds + seconds


def table(seed, skewed):
    """300 to 900 rows of correlated columns."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(chance.integers(300, 901), COLUMNS)).cumsum(axis=1)
    return (np.exp(x) if skewed else x).astype(np.float32)


def small():
    """Settings of a fit in which hardly anything is learned."""
    from tiltflow.fitting.settings import ModelSettings, SamplingSettings, Settings
    from tiltflow.learning import BackboneSettings, TiltSettings

    return Settings(
        model=ModelSettings(blocks=1, flow_width=8, tilt_width=8, tilt_depth=1),
        backbone=BackboneSettings(steps=250, batch=32),
        tilt=TiltSettings(steps=10, particles=64, batch_data=32, batch_particles=32, bank=500),
        sampling=SamplingSettings(chains=4, draws=50, warmup=20, leapfrogs=2, exact_draws=500),
    )


def fits(number, skewed=False):
    """The cost of each fit."""
    import tiltflow
    from tiltflow.parallel.memory_maps import maps_in_use

    compiled, told = Compiled(), []
    for seed in range(number):
        x, number_before, seconds_before = table(seed, skewed), compiled.number, compiled.seconds
        started = time.perf_counter()
        fitted = tiltflow.fit(x, small(), seed=seed)
        told.append(
            {
                "rows": len(x),
                "units": type(fitted.model.model.backbone.units).__name__,
                "seconds": time.perf_counter() - started,
                "compiled": compiled.number - number_before,
                "compiling": compiled.seconds - seconds_before,
                "maps": maps_in_use(),
                "memory": int(Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024,
            }
        )
    return told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fits", type=int)
    parser.add_argument("--skewed", action="store_true")
    parser.add_argument("--without-room", action="store_true", help="for the power of the check")
    given = parser.parse_args()
    if given.without_room:
        from tiltflow.learning import filled

        filled.room = lambda number: number
    json.dump(fits(given.fits, given.skewed), sys.stdout)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
