"""Everything that is spread over devices, on little, as numbers.

    python small_fit.py NAME ... [--broken] [--process I --port P]

prints one JSON object. `--broken` makes `spread` do nothing; with `--process` this is one of two.
"""

import argparse
import functools
import json
import sys
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

WIDTH, PARTICLES, DATA, BATCH, CHAINS = 36, 304, 136, 112, 24


class Problem:
    """A ring of points, a flow that knows nothing of it, and a tilt that is not zero."""

    def __init__(self):
        from tiltflow.backbones import CouplingFlow, fit_units
        from tiltflow.learning import Rows, TiltSettings
        from tiltflow.tilts import MLPTilt

        chance = np.random.default_rng(0)
        angle = chance.uniform(0, 2 * np.pi, (1000, 1))
        x = np.concatenate([np.cos(angle), np.sin(angle)], 1) + 0.1 * chance.normal(size=(1000, 2))
        units = fit_units("standardise", x.astype(np.float32), integers=False)
        self.rows = Rows(jnp.asarray(x, jnp.float32), units, integers=False)

        @eqx.filter_jit  # one program, not one for each array
        def parts():
            tilt = MLPTilt(2, width=WIDTH, key=jr.key(1))
            last = 0.3 * jr.normal(jr.key(2), tilt.layers[-1].weight.shape)
            tilt = eqx.tree_at(lambda t: t.layers[-1].weight, tilt, last)
            return CouplingFlow(units, num_blocks=1, width=4, key=jr.key(0)), tilt

        self.flow, self.tilt = parts()
        self.settings = TiltSettings(
            particles=PARTICLES, batch_data=DATA, batch_particles=BATCH, steps=20, rate=1e-3,
            leapfrogs=3, iterations=4, share_end=0.6,
        )  # fmt: skip

    def state(self):
        """A learner at its start."""
        return eqx.filter_jit(start)(self.flow, self.tilt)

    def stage_arguments(self, **changes):
        """What a stage is called with."""
        from tiltflow.learning.health import Monitor

        settings = replace(self.settings, **changes).traced()
        return self.state(), self.flow, self.rows, settings, Monitor().course(), jr.key(4)

    @property
    def model(self):
        from tiltflow.model.tilted import TiltedModel

        return TiltedModel(self.flow, self.tilt)


def start(flow, tilt):
    """What learning begins with."""
    from tiltflow.learning import optimiser
    from tiltflow.learning.start import Start, as_particles
    from tiltflow.learning.state import LearnerState
    from tiltflow.tilts.base import freeze

    zero, none = jnp.zeros(()), jnp.asarray(0)
    particles = Start(jr.normal(jr.key(3), (PARTICLES, 2)), zero, jnp.asarray(0.5))
    return LearnerState(
        tilt, tilt, optimiser.ADAM.init(freeze(tilt)[0]),
        as_particles(particles, flow, tilt), jnp.zeros(PARTICLES), zero, zero, none, none,
    )  # fmt: skip


@functools.cache
def problem():
    """The one that all programs have."""
    return Problem()


def backbone():
    """A chunk of steps."""
    from tiltflow.learning import BackboneSettings, fit_backbone

    given = problem()
    return fit_backbone(
        given.flow, given.rows, given.rows, BackboneSettings(steps=250, batch=64),
        key=jr.key(5), listen=lambda *told, **fields: None,
    )  # fmt: skip


def population(**changes):
    """A stage, of many steps and few transitions."""
    from tiltflow.learning import population

    return population.stage(*problem().stage_arguments(**changes))


def persistent(**changes):
    """A stage, of few steps and many transitions."""
    from tiltflow.learning import persistent

    return persistent.stage(*problem().stage_arguments(**changes))


def chains():
    """Warm-up and draws."""
    from tiltflow.mcmc import sample

    density, u = problem().model.latent_log_densities, jr.normal(jr.key(6), (CHAINS, 2))
    draws = sample(jr.key(7), density, u, num_draws=10, num_warmup=5, num_leapfrogs=3)
    return draws.acceptance, draws.positions, draws.energies


def passage():
    """Four groups of particles, four rungs up."""
    from tiltflow.normalizer import smc

    rungs = jnp.arange(smc.MOST_RUNGS + 1) / 4
    ladder = smc.Ladder(rungs, 0 * rungs + 0.4, jnp.asarray(4), jnp.ones(()))
    density, u = problem().model.latent_log_densities, jr.normal(jr.key(9), (4, 50, 2))
    return smc.travel(density, jr.key(8), ladder, u)


def exact():
    """More draws of the backbone than fit into one part."""
    from tiltflow.model.log_normalizer import exact_f

    return exact_f(problem().model, 5000, jr.key(10))


def nested():
    """A program inside of another one, once for each of some rows."""
    from tiltflow.parallel.devices import map_in_parts, over_devices, spread

    @over_devices
    def inner(x):
        return jnp.sum(spread(jnp.outer(x, x)), axis=0)

    @over_devices
    def outer(x):
        return map_in_parts(inner, spread(x), 3), jax.vmap(inner)(x), inner(x[0])

    return outer(jr.normal(jr.key(11), (17, 4)))


PROGRAMS = {
    made.__name__: made
    for made in (backbone, population, persistent, chains, passage, exact, nested)
}


def numbers(*names):
    """What the programs make, by name: the size of each array."""
    return {name: told(PROGRAMS[name]()) for name in names}


def told(tree):
    """The size of each array of a tree."""
    return [
        float(np.sqrt(np.mean(np.square(np.asarray(leaf, np.float64)))))
        for leaf in jax.tree.leaves(tree)
        if eqx.is_array_like(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.number)
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", choices=PROGRAMS)
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    if given.process is not None:
        from tiltflow.parallel.processes import join

        join(f"127.0.0.1:{given.port}", 2, given.process)
    if given.broken:
        from tiltflow.parallel import devices

        devices.spread = lambda tree, axis=0: tree
    json.dump(numbers(*given.names) | {"devices": jax.device_count()}, sys.stdout)


if __name__ == "__main__":
    main()
