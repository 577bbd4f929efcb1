"""A small convolutional classifier of Fashion-MNIST, whose last hidden layer gives features.

A distance between images needs coordinates in which it means something: those of a network that
tells garments apart. The network is part of the package, weights and all, so that a number today
can be compared with one tomorrow. `train_classifier.py` makes the weights.
"""

from functools import cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.runs import atomic, reading

SHAPE = (28, 28)
CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
FEATURES = 64
PART = 500  # images at a time
WEIGHTS = Path(__file__).with_name("fashion_mnist.safetensors")


class Classifier(eqx.Module):
    """Three convolutions, 64 features, 10 logits; everything for one image, `jax.vmap` outside."""

    convolutions: tuple[eqx.nn.Conv2d, ...]
    hidden: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, *, key: PRNGKeyArray) -> None:
        """Weights drawn with `key`."""
        keys = jr.split(key, 5)
        self.convolutions = (
            eqx.nn.Conv2d(1, 24, 5, stride=2, padding=2, key=keys[0]),
            eqx.nn.Conv2d(24, 48, 3, padding=1, key=keys[1]),
            eqx.nn.Conv2d(48, 64, 3, stride=2, padding=1, key=keys[2]),
        )
        self.hidden = eqx.nn.Linear(64 * 4 * 4, FEATURES, key=keys[3])
        self.head = eqx.nn.Linear(FEATURES, len(CLASSES), key=keys[4])

    def features(self, image: Array) -> Array:
        """The last hidden layer `[64]` of an image `[28, 28]` with values 0 to 255."""
        h = image[None] / 127.5 - 1.0
        first, second, third = self.convolutions
        h = jax.nn.silu(first(h))
        h = jax.nn.silu(_halved(second(h)))
        h = jax.nn.silu(third(h))
        return jax.nn.silu(self.hidden(h.ravel()))

    def logits(self, features: Array) -> Array:
        """Log-odds of the ten classes, up to a constant, `[10]`, of features `[64]`."""
        return self.head(features)


def _halved(maps: Array) -> Array:
    """The largest of every two by two values of `[channels, height, width]`."""
    channels, height, width = maps.shape
    return maps.reshape(channels, height // 2, 2, width // 2, 2).max(axis=(2, 4))


def features_of(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Features `[n, 64]` of `images` `[n, 28, 28]`, float32.

    Parts are looped over outside of the compiled program: convolutions inside a compiled loop are
    several times slower on a CPU.
    """
    found = np.empty((len(images), FEATURES), np.float32)
    for start in range(0, len(images), PART):
        rows = np.asarray(images[start : start + PART], np.float32)
        room = np.zeros((PART, *SHAPE), np.float32)
        room[: len(rows)] = rows
        found[start : start + PART] = _features(classifier, jnp.asarray(room))[: len(rows)]
    return found


def classes_of(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    """The most probable class, an integer, of each row of `features` `[n, 64]`; `[n]`."""
    head = classifier.head
    return np.asarray(features @ np.asarray(head.weight).T + np.asarray(head.bias)).argmax(axis=1)


@eqx.filter_jit
def _features(classifier: Classifier, images: Array) -> Array:
    return jax.vmap(classifier.features)(images)


def save(classifier: Classifier, path: Path, about: dict[str, str]) -> None:
    """Write the weights in half precision, with `about` in the file's header."""
    arrays = {name: np.asarray(leaf, np.float16) for name, leaf in _named(classifier).items()}
    atomic.write_bytes(path, safetensors.numpy.save(arrays, metadata=about))


@cache
def load(path: Path = WEIGHTS) -> Classifier:
    """The classifier with the weights at `path`, by default those of the package.

    Raises:
        InputError: no such file, or weights of other names or shapes, or that are not finite.
    """
    try:
        arrays = safetensors.numpy.load(reading.read_bytes(path))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): install tiltflow again") from None
    skeleton = eqx.filter_eval_shape(Classifier, key=jr.key(0))
    expected = {name: leaf.shape for name, leaf in _named(skeleton).items()}
    if {name: array.shape for name, array in arrays.items()} != expected:
        raise InputError(f"{path} holds another network's weights: install tiltflow again")
    if not all(np.all(np.isfinite(array)) for array in arrays.values()):
        raise InputError(f"{path} holds weights that are not finite: install tiltflow again")
    filled = [jnp.asarray(arrays[name], jnp.float32) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(skeleton), filled)


def about(path: Path = WEIGHTS) -> dict[str, str]:
    """What the header of the weights says: accuracy on test images, seed, data, epochs."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata()


def _named(classifier: Classifier) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(classifier)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
