"""How the weights of the Fashion-MNIST classifier are made; minutes on two cores.

    python -m tiltflow.evaluation.quality.train_classifier --data fashion_mnist.npz --out FILE

Cross-entropy with smoothed labels, AdamW under a cosine, and the running average of the weights.
Images are neither flipped nor shifted: features must notice a generator that does so.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cyclopts
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.evaluation.quality.classifier import (
    CLASSES,
    SHAPE,
    WEIGHTS,
    Classifier,
    classes_of,
    features_of,
    save,
)
from tiltflow.runs import reading

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class TrainSettings:
    """Of one training.

    Attributes:
        epochs: passes over the training images.
        batch: images of a step.
        rate: of AdamW at its height.
        decay: of weights.
        dropped: share of features left out of the logits.
        smoothing: probability spread over all classes.
        average: share of the old average that a step keeps.
    """

    epochs: int = 10
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.02
    dropped: float = 0.3
    smoothing: float = 0.05
    average: float = 0.998


def train(
    images: np.ndarray,
    labels: np.ndarray,
    settings: TrainSettings,
    *,
    key: PRNGKeyArray,
    listen: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Classifier:
    """A classifier of `images` `[n, 28, 28]`, 0 to 255, with `labels` `[n]`, 0 to 9.

    `listen` is called as (epoch, mean loss of the epoch).
    """
    start_key, key = jr.split(key)
    classifier = Classifier(key=start_key)
    steps = len(images) // settings.batch
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.rate, steps // 4, settings.epochs * steps
    )
    optimiser = optax.adamw(schedule, weight_decay=settings.decay)
    state = optimiser.init(eqx.filter(classifier, eqx.is_array))
    average = classifier

    @eqx.filter_jit
    def step(classifier, average, state, x, y, key):
        loss, gradient = eqx.filter_value_and_grad(_loss)(classifier, x, y, key, settings)
        updates, state = optimiser.update(gradient, state, classifier)
        classifier = eqx.apply_updates(classifier, updates)
        kept = settings.average
        average = jax.tree.map(lambda a, c: kept * a + (1 - kept) * c, average, classifier)
        return classifier, average, state, loss

    for epoch in range(settings.epochs):
        order_key, key = jr.split(key)
        order = np.asarray(jr.permutation(order_key, len(images)))
        losses = []
        for rows in order[: steps * settings.batch].reshape(steps, settings.batch):
            drop_key, key = jr.split(key)
            x, y = jnp.asarray(images[rows], jnp.float32), jnp.asarray(labels[rows])
            classifier, average, state, loss = step(classifier, average, state, x, y, drop_key)
            losses.append(loss)
        listen(epoch + 1, float(np.mean(losses)))
    return average


def _loss(
    classifier: Classifier, x: Array, y: Array, key: PRNGKeyArray, settings: TrainSettings
) -> Array:
    features = jax.vmap(classifier.features)(x)
    kept = jr.bernoulli(key, 1 - settings.dropped, features.shape)
    logits = jax.vmap(classifier.logits)(features * kept / (1 - settings.dropped))
    targets = optax.smooth_labels(jax.nn.one_hot(y, len(CLASSES)), settings.smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


def accuracy(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of `images` that get their label."""
    found = classes_of(classifier, features_of(classifier, images))
    return float(np.mean(found == labels))


def main(
    *, data: Path, out: Path = WEIGHTS, seed: int = 0, epochs: int = TrainSettings.epochs
) -> None:
    """Train on `x_train`, `y_train` of DATA (.npz), judge on `x_test`, `y_test`, write OUT."""
    started = time.monotonic()
    arrays = reading.read_arrays(data)
    if not set(ARRAYS) <= set(arrays) or arrays["x_train"].shape[1:] != SHAPE:
        raise InputError(f"{data} is not Fashion-MNIST; expected {', '.join(ARRAYS)} in it")
    settings = TrainSettings(epochs=epochs)
    classifier = train(
        arrays["x_train"],
        arrays["y_train"],
        settings,
        key=jr.key(seed),
        listen=lambda epoch, loss: print(
            f"epoch {epoch}  loss {loss:.4f}  {time.monotonic() - started:.0f} s", flush=True
        ),
    )
    right = accuracy(classifier, arrays["x_test"], arrays["y_test"])
    about = {
        "accuracy": f"{right:.4f}",
        "data": "Fashion-MNIST",
        "images": hashlib.sha256(arrays["x_train"].tobytes()).hexdigest(),
        "seed": str(seed),
        "epochs": str(epochs),
    }
    save(classifier, out, about)
    print(f"right on {right:.2%} of the test images; weights in {out}")


if __name__ == "__main__":
    cyclopts.run(main)
