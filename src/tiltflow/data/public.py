"""Sets that everybody knows, by name: from a folder, or from their public home.

MNIST: LeCun, Cortes, Burges. Fashion-MNIST: Xiao, Rasul, Vollgraf 2017 (arXiv 1708.07747).
CIFAR-10: Krizhevsky 2009, its binary version.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiltflow.data.download import RemoteFile, download, is_whole
from tiltflow.data.idx import read_idx_array
from tiltflow.data.npz import read_npz
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

FOLDER, HOME = "TILTFLOW_DATA", "TILTFLOW_DATA_URL"
"""Environment variables: the folder of sets, and a home in place of the public ones, which holds
one folder for each set."""

PICTURE = 32 * 32 * 3


@dataclass(frozen=True)
class PublicSet:
    """Where a set lives, the files it is made of, and what they must decode to.

    Attributes:
        home: the address of the folder that holds the files.
        files: training images, training labels, test images, test labels; or one archive.
        content: SHA-256 of images and labels, training then test, each array's bytes in order;
            or empty where only the files' own checksums are known.
    """

    home: str
    files: tuple[RemoteFile, ...]
    content: str = ""


SETS = {
    "mnist": PublicSet(
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        (
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        content="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    ),
    "fashion-mnist": PublicSet(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        (
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        content="ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f",
    ),
    "cifar10": PublicSet(
        "https://www.cs.toronto.edu/~kriz",
        (
            RemoteFile(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
}


def data_folder() -> Path:
    """Where public sets are looked for and kept: `TILTFLOW_DATA`, or the platform's cache."""
    if named := os.environ.get(FOLDER):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "tiltflow" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tiltflow"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiltflow"


def read_public(name: str) -> Found:
    """The set called `name`, training rows first, then its own test rows.

    It is read from `<folder>/<name>.npz` (`x_train`, `y_train`, `x_test`, `y_test`; a hyphen in
    the name may be an underscore) or from its original files in `<folder>/<name>`; what is
    missing there is downloaded.

    Raises:
        InputError: a file is not what was published, or cannot be fetched.
    """
    known, folder = SETS[name], data_folder()
    archives = [folder / f"{name}.npz", folder / f"{name.replace('-', '_')}.npz"]
    if archive := next(filter(Path.is_file, archives), None):
        found = read_npz(archive, None)
    else:
        paths = [_at_hand(name, file, folder / name) for file in known.files]
        found = _from_archive(paths[0]) if len(paths) == 1 else _from_idx(paths)
    if known.content and _digest(found) != known.content:
        raise InputError(
            f"{found.where} is not {name} as it was published (its images or labels differ): "
            f"remove it, or name it by its path"
        )
    return found.named(name, name)


def _at_hand(name: str, file: RemoteFile, folder: Path) -> Path:
    """The path of a file that is whole, downloaded if need be."""
    path = folder / file.name
    if is_whole(path, file):
        return path
    other = os.environ.get(HOME)
    home = f"{other.rstrip('/')}/{name}" if other else SETS[name].home
    return download(f"{home}/{file.name}", file, folder)


def _from_idx(paths: list[Path]) -> Found:
    """The set in four idx files: images and labels, training then test."""
    images, labels, test, test_labels = map(read_idx_array, paths)
    return _together(paths[0].parent, (images, test), (labels, test_labels))


def _from_archive(path: Path) -> Found:
    """CIFAR-10's binary version: records of a label and 3 x 32 x 32 bytes."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    try:
        with tarfile.open(path, "r:gz") as archive:
            parts = {
                name: _records(archive, f"cifar-10-batches-bin/{name}", path)
                for name in [*names, "test_batch.bin"]
            }
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}): remove it, to fetch it again") from None
    train, test = np.concatenate([parts[name] for name in names]), parts["test_batch.bin"]
    return _together(path, (_images(train), _images(test)), (train[:, 0], test[:, 0]))


def _records(archive: tarfile.TarFile, name: str, path: Path) -> np.ndarray:
    stream = archive.extractfile(name)
    data = b"" if stream is None else stream.read()
    if not data or len(data) % (1 + PICTURE):
        raise InputError(f"{path} is damaged ({name} holds no whole images): remove it")
    return np.frombuffer(data, np.uint8).reshape(-1, 1 + PICTURE)


def _images(records: np.ndarray) -> np.ndarray:
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _together(
    where: Path, images: tuple[np.ndarray, np.ndarray], labels: tuple[np.ndarray, np.ndarray]
) -> Found:
    if [len(part) for part in images] != [len(part) for part in labels]:
        raise InputError(f"{where} holds other numbers of images than of labels: remove it")
    together = np.concatenate(images)
    known = np.concatenate(labels).astype(np.int64)
    return Found(where.name, str(where), together, labels=known, test_rows=len(images[1]))


def _digest(found: Found) -> str:
    """SHA-256 of images and labels as uint8, training then test."""
    if found.labels is None or found.array.dtype != np.uint8:
        return ""
    train = len(found.array) - found.test_rows
    digest = hashlib.sha256()
    for rows in (slice(None, train), slice(train, None)):
        digest.update(np.ascontiguousarray(found.array[rows]).data)
        digest.update(found.labels[rows].astype(np.uint8).data)
    return digest.hexdigest()
