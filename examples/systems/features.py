"""Images that recipes have in common, and a small classifier whose features they take.

Fashion-MNIST and what is none of it, from the folder that TILTFLOW_SHARED_DATA names; where a
recipe is to be quick, the 8 x 8 digits that come with scikit-learn, and digits with their pixels in
another order.
"""

import os
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FOLDER = Path(os.environ.get("TILTFLOW_SHARED_DATA", HERE))


@dataclass(frozen=True, eq=False)
class Task:
    """Images `[n, pixels]` from -1 to 1, of some classes, and others that are to be told apart.

    Attributes:
        train, train_labels, test, test_labels: of the classes that are known, counted from 0.
        out: by name, what is none of them.
    """

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    out: dict[str, np.ndarray]


def task(name: str, known: int, *, seed: int, train: int, test: int) -> Task:
    """`known` of the ten classes of a set, those that `seed` draws; the others are unknown.

    Args:
        name: `"digits"`, `"fashion_mnist"` or `"mnist"`.
        known: how many classes.
        seed: of the classes, and of the rows that are taken.
        train, test: rows at most; and rows of whatever is out.
    """
    rng = np.random.default_rng(seed)
    (x, y), (x_test, y_test) = _digits(rng) if name == "digits" else _npz(name)
    order = rng.permutation(10)
    place = np.argsort(order)  # of a class among them: the first are known

    def some(images: np.ndarray, number: int) -> np.ndarray:
        chosen = rng.permutation(len(images))[:number]
        return images[chosen]

    def of_known(x: np.ndarray, y: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = some(np.flatnonzero(place[y] < known), number)
        return x[rows], place[y[rows]]

    out = {}
    if known < 10:
        out["unknown classes"] = some(x_test[place[y_test] >= known], test)
    if name == "digits":
        out["pixels in another order"] = some(x_test, test)[:, rng.permutation(64)]
    elif name == "fashion_mnist":
        out["MNIST"] = some(_npz("mnist")[1][0], test)
        out["notMNIST"] = some(_idx(FOLDER / "notmnist"), test)
    return Task(*of_known(x, y, train), *of_known(x_test, y_test, test), out)


def omniglot(number: int, seed: int) -> np.ndarray:
    """Characters, white on black, made as small as the other images; `[number, 784]`."""
    from PIL import Image

    archive = zipfile.ZipFile(sorted((FOLDER / "omniglot").glob("*evaluation*.zip"))[0])
    names = sorted(name for name in archive.namelist() if name.endswith(".png"))
    chosen = np.random.default_rng(seed).choice(names, number, replace=False)
    images = [Image.open(BytesIO(archive.read(name))).convert("L") for name in chosen]
    small = np.stack([np.asarray(image.resize((28, 28), Image.Resampling.BOX)) for image in images])
    return _scaled(255.0 - small)


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


def descended(network, loss, rows, *, steps: int, seed: int, batch: int = 128, rate: float = 1e-3):
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


def _scaled(images: np.ndarray) -> np.ndarray:
    return (np.asarray(images, np.float32) / 127.5 - 1.0).reshape(len(images), -1)


def _npz(name: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    if not (path := FOLDER / f"{name}.npz").exists():
        raise SystemExit(f"{path} is not there; set TILTFLOW_SHARED_DATA, or take --quick")
    with np.load(path) as arrays:
        return tuple((_scaled(arrays[f"x_{p}"]), arrays[f"y_{p}"]) for p in ("train", "test"))


def _idx(folder: Path) -> np.ndarray:
    from tiltflow.data.idx import read_idx_array

    (path,) = sorted(folder.glob("*images*"))[:1]
    return _scaled(read_idx_array(path))


def _digits(rng: np.random.Generator):
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x, y = (x[order] / 8.0 - 1.0).astype(np.float32), y[order]
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])
