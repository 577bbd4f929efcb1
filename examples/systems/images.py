"""Images that recipes have in common.

Fashion-MNIST and what is none of it, from the folder that TILTFLOW_SHARED_DATA names; where a
recipe is to be quick, the 8 x 8 digits that come with scikit-learn, and digits with their pixels in
another order.
"""

import os
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
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
    parts = _digits(rng) if name == "digits" else [_npz(name, p) for p in ("train", "test")]
    (x, y), (x_test, y_test) = parts
    order = rng.permutation(10)
    place = np.argsort(order)  # of a class among them: the first are known

    def some(images: np.ndarray, number: int) -> np.ndarray:
        chosen = rng.permutation(len(images))[:number]
        return images[chosen]

    def of_known(x: np.ndarray, y: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = some(np.flatnonzero(place[y] < known), number)
        return _scaled(x[rows]), place[y[rows]]

    out = {}
    if known < 10:
        out["unknown classes"] = some(x_test[place[y_test] >= known], test)
    if name == "digits":
        out["pixels in another order"] = some(x_test, test)[:, rng.permutation(64)]
        out["two in one"] = np.maximum(some(x_test, test), some(x_test, test))
    elif name == "fashion_mnist":
        out["MNIST"] = some(_npz("mnist", "test")[0], test)
        out["notMNIST"] = some(_idx(FOLDER / "notmnist"), test)
    out = {name: _scaled(images) for name, images in out.items()}
    return Task(*of_known(x, y, train), *of_known(x_test, y_test, test), out)


def omniglot(number: int, seed: int) -> np.ndarray:
    """Characters, white on black, made as small as the other images; `[number, 784]`."""
    from PIL import Image

    archive = zipfile.ZipFile(sorted((FOLDER / "omniglot").glob("images_background*.zip"))[0])
    names = sorted(name for name in archive.namelist() if name.endswith(".png"))
    chosen = np.random.default_rng(seed).choice(names, number, replace=False)
    images = [Image.open(BytesIO(archive.read(name))).convert("L") for name in chosen]
    small = np.stack([np.asarray(image.resize((28, 28), Image.Resampling.BOX)) for image in images])
    return _scaled(255.0 - small)


def _scaled(images: np.ndarray) -> np.ndarray:
    """From -1 to 1, row by row."""
    return (np.asarray(images, np.float32) / 127.5 - 1.0).reshape(len(images), -1)


def _npz(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    if not (path := FOLDER / f"{name}.npz").exists():
        raise SystemExit(f"{path} is not there; set TILTFLOW_SHARED_DATA, or take --quick")
    with np.load(path) as arrays:
        return arrays[f"x_{part}"], arrays[f"y_{part}"]


def _idx(folder: Path) -> np.ndarray:
    from tiltflow.data.idx import read_idx_array

    (path,) = sorted(folder.glob("*images*"))[:1]
    return read_idx_array(path)


def _digits(rng: np.random.Generator):
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x, y = 255 / 16 * x[order], y[order]
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])
