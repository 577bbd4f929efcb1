"""Members of an ensemble: Gaussian mixtures, and autoregressive flows that start at them.

Mixtures are fitted from several starts, in seconds, and averaged: the cheapest nats there are.
Each flow has one of them as its base and learns it further; where columns lie in cells, as of
labels, flows tell the shares of these after the other columns, whose mixture they start at
(`backbones/celled.py`). Weights are by expectation
maximisation on validation rows, so that the whole cannot end far behind any of its members.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from scipy.special import logsumexp

from tiltflow.backbones import (
    AutoregressiveFlow,
    CelledFlow,
    Density,
    Ensemble,
    Flow,
    MixtureDensity,
)
from tiltflow.backbones.cells import Cells, FoundCells, cells_of
from tiltflow.errors import InputError, at_least_one
from tiltflow.learning.fit_backbone import BackboneSettings
from tiltflow.learning.gaussian_mixture import GaussianMixture, another, best_mixture
from tiltflow.learning.gaussian_start import coordinates_of
from tiltflow.learning.rows import Rows
from tiltflow.model.told import told_of
from tiltflow.parallel.devices import over_devices_once

ROWS, COPIES = 8_000, 4  # that mixtures are fitted to, and draws of the noise of each, at most
EM_ROUNDS = 200
RISES = 4  # looks in a row, each worse than the one before, that end the learning of a flow
VAL_DRAWS = 4  # of the noise of each held-out row, that a flow is looked at with
LEAST_BUDGET = 30.0  # seconds
LEAST_WEIGHT = 1e-30  # so that its logarithm is finite


@dataclass(frozen=True)
class MemberSettings:
    """The members beside the coupling flow, and how flows are learned.

    Attributes:
        mixtures: starts of Gaussian mixtures.
        flows: autoregressive ones, each on one of the mixtures.
        width, depth, dropout: of their networks.
        steps, batch, rate, decay, patience: as in `BackboneSettings`.
            The second flow is learned for three times as many, and those after it for as many as
            it, or as the first, whichever was the better one (`fitting/members.py`).
        budget: seconds that the whole fit is to take: steps are then what there is time for; 0: it
            takes as long as it takes.
    """

    mixtures: int = 4
    flows: int = 1
    width: int = 64
    depth: int = 2
    dropout: float = 0.1
    steps: int = 3_000
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.0
    patience: int = 8
    budget: float = 0.0

    def check(self) -> None:
        """Raises InputError for the first setting that cannot work."""
        at_least_one(self, "mixtures", "width", "depth")
        if not 0 <= self.flows <= self.mixtures:
            raise InputError(
                f"flows is {self.flows} and mixtures {self.mixtures}; expected no more flows than "
                f"mixtures: each starts at one"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout} of the members; expected [0, 1)")
        if not (self.budget == 0 or LEAST_BUDGET <= self.budget < math.inf):
            raise InputError(
                f"a budget of {self.budget:g} seconds; expected at least {LEAST_BUDGET:g}, of "
                f"which compiling and the judgement take the larger part, or 0 for none"
            )
        self.descent.check()

    @property
    def descent(self) -> BackboneSettings:
        """How a flow is learned."""
        return BackboneSettings(
            steps=self.steps,
            batch=self.batch,
            rate=self.rate,
            decay=self.decay,
            patience=self.patience,
            rises=RISES,
            val_draws=VAL_DRAWS,
        )


def fit_mixtures(
    train: Rows, val: Rows, settings: MemberSettings, *, key: PRNGKeyArray
) -> "list[Future[MixtureDensity]]":
    """Mixtures of the rows' coordinates, from as many starts; one, if one component is best.

    The first is there at once. The others, of the same size, come while the first is learned from.
    """
    keys = jr.split(key)
    c, held_out = (
        coordinates_of(rows, key, most=ROWS, draws=COPIES)
        for rows, key in zip((train, val), keys, strict=True)
    )
    first = best_mixture(c, held_out)
    found: Future[MixtureDensity] = Future()
    found.set_result(as_density(first.mixture))
    if len(first.mixture.means) == 1:
        return [found]

    def one_more(seed: int) -> MixtureDensity:
        return as_density(another(first, c, held_out, seed=seed))

    thread = ThreadPoolExecutor(1)
    others = [thread.submit(one_more, seed) for seed in range(1, settings.mixtures)]
    thread.shutdown(wait=False)
    return [found, *others]


@over_devices_once
def begin_flow(
    base: MixtureDensity, settings: MemberSettings, *, key: PRNGKeyArray
) -> AutoregressiveFlow:
    """The flow before it is learned."""
    return AutoregressiveFlow(base, base.means.shape[1], **_sizes(settings), key=key)


def begin_celled(
    base: MixtureDensity, cells: FoundCells, settings: MemberSettings, *, key: PRNGKeyArray
) -> CelledFlow:
    """The flow of columns in cells and others, before it is learned.

    Args:
        base: of the other columns, in their order in the table (`fit_base`).
        cells: of the columns in cells.
        settings: the sizes of the network.
        key: of the orders and of the network.
    """
    free_key, many_key, few_key, key = jr.split(key, 4)
    in_cells = np.concatenate([cells.of_many, cells.of_few])
    dim = len(in_cells) + base.means.shape[1]
    others = np.setdiff1d(np.arange(dim), in_cells)
    free, many, few = (
        jr.permutation(key, len(some))
        for key, some in ((free_key, others), (many_key, cells.of_many), (few_key, cells.of_few))
    )
    order = jnp.concatenate(
        [jnp.asarray(some)[places] for some, places in (
            (others, free), (cells.of_many, many), (cells.of_few, few)
        )]
    )  # fmt: skip
    return _begin_celled(
        _of_columns(base, np.asarray(free)),
        cells.many.of(many),
        cells.few.of(few),
        order.astype(int),
        settings,
        key=key,
    )


@over_devices_once
def _begin_celled(
    base: MixtureDensity,
    many: Cells,
    few: Cells,
    order: Array,
    settings: MemberSettings,
    *,
    key: PRNGKeyArray,
) -> CelledFlow:
    return CelledFlow(base, many, few, order, **_sizes(settings), key=key)


def cells_of_rows(train: Rows) -> FoundCells | None:
    """The cells of a table's columns, as `cells_of`; None where none has some, or noise is added.

    Of tables of nothing but integers None, too.
    """
    if train.steps is None or train.noise is not None or train.values.ndim != 2:
        return None
    return cells_of(train.units, train.array(), np.asarray(train.steps))


def fit_base(train: Rows, val: Rows, cells: FoundCells, *, key: PRNGKeyArray) -> MixtureDensity:
    """The best mixture of the columns that lie in no cells; of a table without any, of nothing."""
    keys = jr.split(key)
    in_cells = np.concatenate([cells.of_many, cells.of_few])
    c, held_out = (
        np.delete(coordinates_of(rows, key, most=ROWS, draws=COPIES), in_cells, axis=1)
        for rows, key in zip((train, val), keys, strict=True)
    )
    if not c.shape[1]:
        return MixtureDensity.standard(1, 0)
    return as_density(best_mixture(c, held_out).mixture)


def _sizes(settings: MemberSettings) -> dict[str, Any]:
    return {"width": settings.width, "depth": settings.depth, "dropout": settings.dropout}


def _of_columns(mixture: MixtureDensity, places: np.ndarray) -> MixtureDensity:
    """The density of these columns of a mixture's draws, in this order."""
    raw = np.asarray(mixture.whiteners, np.float64)
    diagonal = np.exp(np.diagonal(raw, axis1=1, axis2=2))
    whiteners = np.tril(raw, -1) + diagonal[:, :, None] * np.eye(raw.shape[-1])
    factors = np.linalg.inv(whiteners)
    covariances = factors @ np.swapaxes(factors, 1, 2)
    some = np.linalg.cholesky(covariances[:, places][:, :, places])
    means = np.asarray(mixture.means, np.float64)[:, places]
    return as_density(GaussianMixture(np.asarray(mixture.log_weights), means, some))


def weighed(
    transport: Flow, members: tuple[Density, ...], val: Rows, *, key: PRNGKeyArray
) -> tuple[Ensemble, float]:
    """The ensemble with the weights that suit the validation rows, and its score, in nats a row.

    `val` are rows in the coordinates of the transport.
    """
    even = evenly(transport, members)
    number = 1 + len(members)
    held_out = val.embedded(key, 10)
    c, log_det = (np.asarray(x)[: int(held_out.count)] for x in held_out.rows)
    each = told_of(even, c).each
    log_weights = np.full(number, -np.log(number))
    for _ in range(EM_ROUNDS):
        joint = each + log_weights
        shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)).mean(axis=0)
        log_weights = np.log(np.maximum(shares, LEAST_WEIGHT))
    nll = -float(np.mean(np.asarray(logsumexp(each + log_weights, axis=1)) + log_det))
    return eqx.tree_at(lambda e: e.log_weights, even, jnp.asarray(log_weights, jnp.float32)), nll


def evenly(transport: Flow, members: tuple[Density, ...]) -> Ensemble:
    """The ensemble whose members weigh the same."""
    number = 1 + len(members)
    return Ensemble(transport, members, jnp.full(number, -np.log(number), jnp.float32))


def as_density(mixture: GaussianMixture) -> MixtureDensity:
    """The same components, to be learned further."""
    whiteners = np.linalg.inv(mixture.factors)
    log_diagonal = np.log(np.diagonal(whiteners, axis1=1, axis2=2))
    dim = whiteners.shape[-1]
    whiteners = np.tril(whiteners, -1) + log_diagonal[:, :, None] * np.eye(dim)
    return MixtureDensity(
        *(jnp.asarray(x, jnp.float32) for x in (mixture.log_weights, mixture.means, whiteners))
    )


def together(mixtures: list[MixtureDensity]) -> MixtureDensity:
    """Their average, as one mixture."""
    log_weights = [jax.nn.log_softmax(m.log_weights) for m in mixtures]
    return MixtureDensity(
        jnp.concatenate(log_weights) - np.log(len(mixtures)),
        jnp.concatenate([m.means for m in mixtures]),
        jnp.concatenate([m.whiteners for m in mixtures]),
    )
