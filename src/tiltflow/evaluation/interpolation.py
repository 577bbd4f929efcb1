"""Images between images: paths in latent space, pushed to data.

A straight line between two draws of N(0, I) passes closer to the origin than draws ever are. The
path here is a great circle in direction (White 2016, arXiv 1609.04468, section 2.1), and the norm
goes evenly from that of one end to that of the other: every point is as far out as draws are.

The path is the backbone's: the tilt has no part in it, unless in its ends.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from tiltflow.backbones.base import Flow
from tiltflow.evaluation.report_arrays import TIMES, TRAVELLERS
from tiltflow.mcmc.draws import over_chains
from tiltflow.model.fitted import FittedModel

PAIRS = TRAVELLERS  # with as many images each: one program pushes both
TINY = 1e-6  # below it a sine is no denominator


def interpolation(
    fitted: FittedModel,
    positions: Float[np.ndarray, "chains draws ..."],
    held_out: Num[np.ndarray, "rows ..."],
) -> dict[str, np.ndarray]:
    """Paths of images, `[pairs, times, *data_shape]`, in data units.

    `interpolation` is between held-out images, where the backbone is a flow; else, as images then
    have no latent position, `interpolation_draws` is between draws of the model, without noise.

    Args:
        fitted: the model.
        positions: latent draws of its chains.
        held_out: images, data units; neighbours make a pair.
    """
    backbone = fitted.model.backbone
    if isinstance(backbone, Flow):
        name, ends = "interpolation", pulled(backbone, fitted.middle(held_out[: 2 * PAIRS]))
    else:
        name, ends = "interpolation_draws", over_chains(positions, 2 * PAIRS)[0]
    pairs = len(ends) // 2
    paths = great_circle(ends[0 : 2 * pairs : 2], ends[1 : 2 * pairs : 2], TIMES)
    return {name: fitted.push(paths, noise=False)}


def pulled(backbone: Flow, x: Float[np.ndarray, "rows ..."]) -> Float[np.ndarray, "rows ..."]:
    """The latent positions of images, such as those at the middles of their cells."""
    return np.asarray(_pull(backbone, jnp.asarray(x)))


def great_circle(
    first: Float[np.ndarray, "pairs ..."], second: Float[np.ndarray, "pairs ..."], times: int
) -> Float[np.ndarray, "pairs times ..."]:
    """Paths from `first` to `second`, both included, none of them 0.

    Between opposite directions, where every way is as short, the path is a straight line.
    """
    a, b = (np.asarray(u, np.float64).reshape(len(u), 1, -1) for u in (first, second))
    a_norm, b_norm = (np.linalg.norm(u, axis=-1, keepdims=True) for u in (a, b))
    t = np.linspace(0, 1, times)[:, None]
    a, b = a / a_norm, b / b_norm
    angle = np.arccos(np.sum(a * b, axis=-1, keepdims=True).clip(-1, 1))
    flat = np.sin(angle) < TINY
    sine = np.where(flat, 1.0, np.sin(angle))
    of_a = np.where(flat, 1 - t, np.sin((1 - t) * angle) / sine)
    of_b = np.where(flat, t, np.sin(t * angle) / sine)
    path = (of_a * a + of_b * b) * ((1 - t) * a_norm + t * b_norm)
    return path.reshape(len(first), times, *first.shape[1:]).astype(first.dtype)


@eqx.filter_jit
def _pull(backbone: Flow, x: Float[Array, "rows ..."]) -> Float[Array, "rows ..."]:
    return jax.vmap(backbone.pull)(x)
