"""A fitted model in other people's samplers, and their algorithms in ours: a minute.

python examples/other_samplers.py [RUN] [--quick]

RUN is a folder of `tiltflow fit`; without it a small model of two crescents is learned first. The
latent log-density f(g(u)) - |u|^2 / 2 is a plain JAX function of one array, which is all that
BlackJAX and NumPyro ask for. Each line is the mean of f under the model, which is 0 by the choice
of f's level, up to error.
"""

import sys
from importlib.util import find_spec

import blackjax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.datasets import make_moons

import tiltflow
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.fitting.settings import ModelSettings
from tiltflow.learning import BackboneSettings, TiltSettings
from tiltflow.mcmc.blackjax_adapter import BlackJAX

quick = "--quick" in sys.argv
paths = [argument for argument in sys.argv[1:] if argument != "--quick"]
chains, draws, warmup = 16, 50 if quick else 500, 100

if paths:
    fitted = tiltflow.load_model(f"{paths[0]}/model")
else:
    x, _ = make_moons(400 if quick else 2_000, noise=0.1, random_state=0)
    small = tiltflow.Settings(
        model=ModelSettings(blocks=1, flow_width=16, tilt_width=32),
        backbone=BackboneSettings(steps=250),
        tilt=TiltSettings(
            steps=300, particles=512, bank=2_000, rate=5e-3, memory=0.98, judge_every=1
        ),
        sampling=SamplingSettings(chains=16, draws=200, exact_draws=10_000),
    )
    fitted = tiltflow.fit(tiltflow.Dataset("moons", x.astype(np.float32), False), small).model
model = fitted.model
start = jr.normal(jr.key(1), (chains, *model.backbone.latent_shape))


def tell(name: str, u: np.ndarray) -> None:
    """Print the mean of f at latent draws `[chains, draws, dim]`, with the chains' error."""
    f = jax.vmap(jax.vmap(lambda u: model.tilt(model.backbone.coordinates(u))))(jnp.asarray(u))
    means = np.asarray(f).mean(axis=1)
    error = means.std(ddof=1) / len(means) ** 0.5
    print(f"{name:<34} mean f {means.mean():7.3f} ± {error:.3f}", flush=True)


# Ours, and a BlackJAX algorithm as our kernel: NUTS, warmed up and judged as any other.
tell("tiltflow, HMC", fitted.sample(chains, draws, warmup=warmup)[1].positions)
nuts = fitted.sample(chains, draws, warmup=warmup, kernel=BlackJAX())[1]
tell("tiltflow, BlackJAX's NUTS as kernel", nuts.positions)

# BlackJAX by itself: the latent log-density is its target.
sampler = blackjax.nuts(
    model.latent_log_density,
    step_size=nuts.step_size,
    inverse_mass_matrix=jnp.ones(start.shape[1]),
)


@jax.jit
def run_chain(position: jax.Array, key: jax.Array) -> jax.Array:
    """One chain of BlackJAX's, `[warmup + draws, dim]`."""

    def step(state, key):
        state, _ = sampler.step(key, state)
        return state, state.position

    return jax.lax.scan(step, sampler.init(position), jr.split(key, warmup + draws))[1]


u = jax.vmap(run_chain)(start, jr.split(jr.key(2), chains))
tell("BlackJAX, NUTS", u[:, warmup:])

# NumPyro: minus the latent log-density is its potential energy.
if find_spec("numpyro") is None:
    print("NumPyro is not installed: left out")
else:
    from numpyro.infer import MCMC, NUTS

    kernel = NUTS(potential_fn=lambda u: -model.latent_log_density(u))
    mcmc = MCMC(
        kernel, num_warmup=warmup, num_samples=draws, num_chains=chains,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    mcmc.run(jr.key(3), init_params=start)
    tell("NumPyro, NUTS", mcmc.get_samples(group_by_chain=True))

# ArviZ: the draws and the chains' statistics, to look at or to write as NetCDF.
if find_spec("arviz") is None:
    print("ArviZ is not installed: left out")
else:
    groups = tiltflow.to_arviz(nuts)
    print(f"ArviZ: {', '.join(groups['posterior'].data_vars)} of {chains} chains")
