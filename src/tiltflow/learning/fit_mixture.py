"""A mixture tilt by expectation maximisation: learned without chains, in equilibrium at once.

Where a backbone's coordinates are its noise, as z is of a `Prior`, the tilted model that a
mixture of the rows' coordinates makes is that mixture (`tilts/mixture.py`). What a network then
adds starts from exact draws and from log Z = 0.
"""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from tiltflow.errors import InputError
from tiltflow.learning.rows import Rows
from tiltflow.learning.start import Start
from tiltflow.tilts import MixtureTilt
from tiltflow.tilts.mixture import FLOOR

MOST_ROWS = 60_000  # that the mixture is fitted to
ITERATIONS = 50  # of expectation maximisation, at most
STEP_SIZE = 0.2  # of the first transitions; it is adapted


def fit_mixture(train: Rows, components: int, *, key: PRNGKeyArray) -> MixtureTilt:
    """A mixture of the coordinates of `train`, rows through a backbone whose coordinates are u.

    Raises:
        InputError: more components than a tenth of the rows.
    """
    rows = min(len(train), MOST_ROWS)
    if components > rows // 10:
        raise InputError(
            f"{components} components of the tilt for {rows} rows; expected at most {rows // 10}"
        )
    rows_key, seed_key = jr.split(key)
    c = np.asarray(train.first(rows).every(rows_key, 1)[0][:, 0], np.float64)
    mixture = GaussianMixture(
        components,
        max_iter=ITERATIONS,
        reg_covar=FLOOR,
        init_params="k-means++",
        random_state=int(jr.randint(seed_key, (), 0, 2**31 - 1)),
    )
    # Its matrix products are small: threads cost more than they bring, above all on a busy machine.
    with threadpool_limits(1), warnings.catch_warnings():
        # It need not converge: what is left is for the network on top.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(c)
    names = ("weights_", "means_", "precisions_cholesky_")
    weights, means, factors = (np.asarray(getattr(mixture, name)) for name in names)
    return MixtureTilt(jnp.log(weights), jnp.asarray(means), jnp.asarray(factors))


def mixture_of_labels(train: Rows, *, shared: bool = True, key: PRNGKeyArray) -> MixtureTilt:
    """As `fit_mixture`, with a component for each label of the rows (`MixtureTilt.of_labels`).

    Raises:
        InputError: the rows have no labels.
    """
    if train.labels is None:
        raise InputError("the rows have no labels; expected some, or a number of components")
    rows = train.first(MOST_ROWS)
    labels = np.asarray(rows.labels)[: len(rows)]
    return MixtureTilt.of_labels(rows.every(key, 1)[0][:, 0], labels, shared=shared)


def exact_start(mixture: MixtureTilt, number: int, *, key: PRNGKeyArray) -> Start:
    """`number` exact draws of the tilted model, whose log Z is 0."""
    u = mixture.draw(key, number)
    zero = u[0, 0] * 0
    return Start(u, zero, zero + STEP_SIZE)
