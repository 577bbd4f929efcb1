"""One process of `scaling.py`: it learns and samples when it is told to, and says how long it took.

It reads a line, `learning` or `sampling`, from standard input for each measurement, and answers
with seconds and processor seconds on standard output; before the first it says what numbers it
makes.
"""

import argparse
import json
import os
import sys
import time

BATCH, LEAPFROGS, ITERATIONS, TRANSITIONS = 256, 8, 4, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", required=True)
    parser.add_argument("--particles", type=int, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process-id", type=int, default=0)
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    os.sched_setaffinity(0, map(int, given.cores.split(",")))
    if given.processes > 1:
        from tiltflow.parallel.processes import join

        join(f"127.0.0.1:{given.port}", given.processes, given.process_id)
    programs = made(given.particles)
    made_by = {name: sizes(program()) for name, program in programs.items()}
    print(json.dumps(made_by), flush=True)
    for line in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        sizes(programs[line.strip()]())
        print(time.perf_counter() - began, time.process_time() - used, flush=True)


def made(particles: int) -> dict:
    """Programs by name; the model is `tiltflow fit digits --backbone coupling`, not learned."""
    import equinox as eqx
    import jax.numpy as jnp
    import jax.random as jr
    from sklearn.datasets import load_digits

    from tiltflow.backbones import fit_units
    from tiltflow.fitting.recipes import specification
    from tiltflow.fitting.settings import ModelSettings
    from tiltflow.learning import Rows, TiltSettings, optimiser, persistent
    from tiltflow.learning.health import Monitor
    from tiltflow.learning.start import Start, as_particles
    from tiltflow.learning.state import LearnerState
    from tiltflow.mcmc import sample
    from tiltflow.model.tilted import TiltedModel
    from tiltflow.tilts.base import freeze

    x = load_digits().images.astype("float32")
    units = fit_units("auto", x, integers=True)
    spec = specification(ModelSettings(), units)
    flow, tilt = spec.flow(units, key=jr.key(0)), spec.tilt(key=jr.key(1))
    last = 0.1 * jr.normal(jr.key(2), tilt.layers[-1].weight.shape)
    tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, last)
    rows = Rows(jnp.asarray(x, jnp.uint8), units, integers=True)
    u, zero, none = jr.normal(jr.key(3), (particles, 64)), jnp.zeros(()), jnp.asarray(0)
    begun = as_particles(Start(u, zero, jnp.asarray(0.2)), flow, tilt)
    adam = optimiser.ADAM.init(freeze(tilt)[0])
    state = LearnerState(
        tilt, tilt, adam, begun, jnp.zeros(particles), zero, zero, none, none
    )  # fmt: skip
    settings = TiltSettings(
        particles=particles, batch_data=BATCH, leapfrogs=LEAPFROGS, iterations=ITERATIONS,
        transitions=TRANSITIONS,
    ).traced()  # fmt: skip
    model = TiltedModel(flow, tilt)

    def learning():
        return persistent.stage(state, flow, rows, settings, Monitor().course(), jr.key(4))

    def sampling():
        draws = sample(
            jr.key(5), model.latent_log_densities, u, num_draws=ITERATIONS * TRANSITIONS,
            num_warmup=0, num_leapfrogs=LEAPFROGS, step_size=0.1, chunk=ITERATIONS * TRANSITIONS,
        )  # fmt: skip
        return draws.positions, draws.energies

    return {"learning": learning, "sampling": sampling}


def sizes(tree) -> list[float]:
    """The root mean square of every array, once all are there."""
    import jax
    import numpy as np

    arrays = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree) if np.ndim(leaf)]
    return [float(np.sqrt(np.mean(array**2))) for array in arrays]


if __name__ == "__main__":
    main()
