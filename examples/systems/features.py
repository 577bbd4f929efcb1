"""A small classifier, the density of its features, and scores of rows that it does not know.

Recipes on features share it. Features are taken before an activation: a rectified one has a point
mass, and no density.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from images import Task
from sklearn.neighbors import NearestNeighbors
from table import Claim

from tiltflow.backbones import Gaussian, fit_units
from tiltflow.evaluation.outliers import judged, of_logits
from tiltflow.learning import Rows
from tiltflow.learning.fit_mixture import mixture_of_labels
from tiltflow.tilts import MixtureTilt

NEIGHBOURS, REMEMBERED = 50, 10_000


class Classifier(eqx.Module):
    """Pixels to features through a layer without activation, and from there to logits."""

    hidden: eqx.nn.Linear
    bottleneck: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, pixels: int, width: int, features: int, classes: int, *, key: jax.Array):
        """Weights drawn with `key`."""
        keys = jr.split(key, 3)
        self.hidden = eqx.nn.Linear(pixels, width, key=keys[0])
        self.bottleneck = eqx.nn.Linear(width, features, key=keys[1])
        self.head = eqx.nn.Linear(features, classes, key=keys[2])

    def features(self, x: jax.Array) -> jax.Array:
        """Of one image: not rectified, since a density has no point masses."""
        return self.bottleneck(jax.nn.silu(self.hidden(x)))

    def logits(self, h: jax.Array) -> jax.Array:
        """Of features."""
        return self.head(jax.nn.silu(h))


def classifier(task: Task, width: int, features: int, *, steps: int, seed: int) -> Classifier:
    """Learned by cross-entropy, in batches of 128."""
    classes = int(task.train_labels.max()) + 1
    network = Classifier(task.train.shape[1], width, features, classes, key=jr.key(seed))

    def loss(network: Classifier, index: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = jax.vmap(lambda x: network.logits(network.features(x)))(x[index])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[index]).mean()

    return descended(network, loss, (task.train, task.train_labels), steps=steps, seed=seed)


def descended(network, loss, rows, *, steps: int, seed: int, batch: int = 128, rate=1e-3):
    """`network` after so many steps of Adam on `loss` of it, row numbers and the arrays `rows`."""
    adam = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-3)
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)
    number = len(rows[0])

    @jax.jit
    def run(parameters, key, *rows):
        def step(carry, key):
            parameters, state = carry
            index = jr.randint(key, (batch,), 0, number)
            gradient = jax.grad(lambda p: loss(eqx.combine(p, rest), index, *rows))(parameters)
            updates, state = adam.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), state), None

        start = (parameters, adam.init(parameters))
        return jax.lax.scan(step, start, jr.split(key, steps))[0][0]

    return eqx.combine(run(parameters, jr.key(seed + 1), *map(jnp.asarray, rows)), rest)


@dataclass(frozen=True, eq=False)
class Featured:
    """A task seen through a classifier.

    Attributes:
        network: the classifier.
        h: its features, `[n, dim]`, of the rows `"train"`, `"val"`, `"in"`, and of what is out.
        backbone, mixture: the normal density of the training rows, and that of their classes.
        train, val: nine tenths of the training rows, and the others, with their labels.
    """

    network: Classifier
    h: dict[str, np.ndarray]
    backbone: Gaussian
    mixture: MixtureTilt
    train: Rows
    val: Rows

    def coordinates(self, name: str) -> jax.Array:
        """Of the backbone; `[n, dim]`."""
        return jax.vmap(self.backbone.units.encode)(jnp.asarray(self.h[name]))

    def added(self, tilt, c: jax.Array) -> jax.Array:
        """f beside the mixture, of coordinates `[n, dim]`."""
        return jax.vmap(tilt)(c) - jax.vmap(self.mixture)(c)

    def scores(self, tilt, name: str) -> dict[str, np.ndarray]:
        """By name, higher for stranger rows: of classifier, neighbours, q, f, and of both."""
        c, h = self.coordinates(name), self.h[name]
        log_q, f = self.mixture.latent_log_densities(c), self.added(tilt, c)
        some = self.h["train"][:REMEMBERED]
        train, rows = (x / np.linalg.norm(x, axis=1)[:, None] for x in (some, h))
        nearest = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(train).kneighbors(rows)[0][:, -1]
        found = {"tilted": -(log_q + f), "log q": -log_q, "f alone": -f, "50-NN": nearest}
        found |= of_logits(np.asarray(jax.vmap(self.network.logits)(h)))
        return {name: np.asarray(one, np.float64) for name, one in found.items()}


def featured(task: Task, network: Classifier, *, seed: int) -> Featured:
    """The features of all rows of a task, and the mixture of those of its classes."""
    images = {"train": task.train, "in": task.test, **task.out}
    h = {name: np.asarray(jax.vmap(network.features)(x)) for name, x in images.items()}
    backbone = Gaussian(fit_units("whiten", h["train"], integers=False))
    tenth = len(task.train) // 10
    h["val"] = h["train"][:tenth]
    val, train = (
        Rows(h["train"][part], backbone.units, False, labels=task.train_labels[part])
        for part in (slice(tenth), slice(tenth, None))
    )
    mixture = mixture_of_labels(train, key=jr.key(seed))
    return Featured(network, h, backbone, mixture, train, val)


def told_apart(inside: dict, outside: dict, *, draws: int = 100) -> dict:
    """Every score judged, with its lead of the first one paired.

    FPR95 is read where 95% of the rows that are in are taken for such, as the field does: so those
    are what is to be found here, and a score is negated.
    """
    both = {name: -np.concatenate([inside[name], outside[name]]) for name in inside}
    sizes = [len(next(iter(rows.values()))) for rows in (inside, outside)]
    return judged(both, np.repeat([1, 0], sizes), draws=draws)


def as_claims(system: str, rows: list[tuple]) -> list[Claim]:
    """Claims of plain numbers: words, baseline, ours, threshold, whether larger is better."""
    plain = [[None if x is None else float(x) for x in row[1:4]] for row in rows]
    return [Claim(system, row[0], *one, *row[4:]) for row, one in zip(rows, plain, strict=True)]
