"""Where a second tilt starts: draws of the model that the first has made, with fresh noise.

Under a tilt of z alone the noise eps of x = decoder(z) + sigma eps is N(0, I) and independent of
z. So draws of z with fresh noise are exact draws of what a tilt of x begins from, with its log Z.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.backbones import Prior
from tiltflow.learning.fit_mixture import STEP_SIZE, exact_start
from tiltflow.learning.start import Start, begin
from tiltflow.learning.witnesses import Judgement
from tiltflow.mcmc import catalogue
from tiltflow.mcmc.run import sample
from tiltflow.model.tilted import TiltedModel
from tiltflow.tilts import MixtureTilt, Tilt

MOVES = 40  # from draws of the mixture to those of the whole tilt
LEAPFROGS = 8


def second_start(
    key: PRNGKeyArray, prior: Prior, first: Tilt, judgement: Judgement, number: int
) -> Start:
    """`number` draws of (z, eps), z those of the model of `first`, whose log Z is `judgement`'s.

    Args:
        key: random key.
        prior: of a generator.
        first: the tilt of its z.
        judgement: that this tilt was kept for.
        number: of draws.

    Raises:
        InputError: there is no mixture in the tilt to start from, and a ladder does not reach it.
    """
    start_key, move_key, noise_key = jr.split(key, 3)
    model = TiltedModel(prior, first)
    mixture = model.mixture
    if isinstance(mixture, MixtureTilt):
        moved = sample(
            move_key,
            model.latent_log_densities,
            exact_start(mixture, number, key=start_key).u,
            num_draws=1,
            num_warmup=MOVES,
            kernel=catalogue.with_proposal(catalogue.JUMPS, LEAPFROGS, mixture),
            step_size=STEP_SIZE,
        )
        z = np.asarray(moved.positions)[:, -1]
    else:
        z = begin(start_key, prior, first, number).u
    size = prior.generator.dim - prior.dim
    u = jnp.concatenate([jnp.asarray(z), jr.normal(noise_key, (number, size))], axis=1)
    return Start(u, judgement.log_z, judgement.log_z * 0 + STEP_SIZE)
