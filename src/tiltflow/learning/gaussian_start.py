"""Where a coupling flow starts: at the normal density of the rows, with a full covariance.

Linear dependence is what affine couplings find slowest, and what a covariance says at once. Of
nearly collinear columns a flow from N(0, I) was 7 nats behind it after all its steps.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tiltflow.backbones.coupling import CouplingFlow
from tiltflow.backbones.units.normal import Normal, affine_of, best_normal
from tiltflow.learning.rows import Rows
from tiltflow.parallel.devices import over_devices_once

MOST_ROWS = 20_000  # that it is fitted to
MOST_DRAWS = 8  # of the noise of each
ENOUGH_ROWS = 8_000  # of fewer there are several draws


def at_normal(flow: CouplingFlow, train: Rows, val: Rows, *, key: PRNGKeyArray) -> CouplingFlow:
    """`flow`, at its start, with the base that makes it the normal density of `train`.

    Coordinates are those of the flow's units, whatever those of the rows. `val` says by how much
    correlations are shrunk.
    """
    keys = jr.split(key)
    c, held_out = (
        coordinates_of(rows.through(flow), key, most=MOST_ROWS, draws=MOST_DRAWS)
        for rows, key in zip((train, val), keys, strict=True)
    )
    normal, _ = best_normal(c, held_out)
    # Before it is learned a flow does nothing but put coordinates into another order.
    came_from = np.asarray(_order(flow)).round().astype(int)
    order = np.argsort(came_from)
    covariance = (normal.factor @ normal.factor.T)[np.ix_(order, order)]
    base = affine_of(Normal(normal.mean[order], np.linalg.cholesky(covariance)))
    return eqx.tree_at(lambda flow: flow.base, flow, base)


@over_devices_once
def _order(flow: CouplingFlow) -> Float[Array, " dim"]:
    """Where the flow, but for its base, takes 0, 1, 2, ..."""
    plain = eqx.tree_at(lambda flow: flow.base, flow, None, is_leaf=lambda x: x is None)
    return plain.coordinates(jnp.arange(flow.dim, dtype=float))


def coordinates_of(
    rows: Rows, key: PRNGKeyArray, *, most: int, draws: int
) -> Float[np.ndarray, "rows dim"]:
    """Coordinates of `most` rows; of few with up to so many draws of what is random in them."""
    few = rows.first(most)
    draws = max(1, min(draws, ENOUGH_ROWS // max(len(few), 1)))
    c = few.every(key, draws)[0]
    return np.asarray(c.reshape(-1, c.shape[-1]), np.float64)
