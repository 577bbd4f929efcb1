"""Public sets: from a folder, and over a local server that fails in every way a home can."""

import gzip
import hashlib
import http.server
import io
import os
import struct
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tiltflow.data import load, public
from tiltflow.data.download import RemoteFile, download
from tiltflow.data.public import PublicSet
from tiltflow.errors import InputError

SHARED = Path(os.environ.get("TILTFLOW_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
RNG = np.random.default_rng(0)
CONTENT = RNG.bytes(300_000)


class Home(http.server.BaseHTTPRequestHandler):
    """Serves `files`; a path under /MISBEHAVIOUR/ is answered so."""

    files: dict[str, bytes]

    def do_GET(self):
        how, _, name = self.path.strip("/").rpartition("/")
        data = self.files.get(name)
        if data is None:
            self.send_error(404)
            return
        if how == "silent":
            time.sleep(1.5)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if how == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if how == "long":
            data = data + b"more"
        self.wfile.write(data[: len(data) // 2] if how == "cut" else data)

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(scope="module")
def home():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Home) as server:
        Home.files = {"x.bin": CONTENT}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


FILE = RemoteFile("x.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_good_file_arrives_whole(home, tmp_path, capsys):
    path = download(f"{home}/x.bin", FILE, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""  # nobody looks


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("wrong", "SHA-256"),
        ("cut", "was cut off after 150,000 of 300,000 bytes"),
        ("silent", "no answer in time"),
        ("absent", "HTTP status 404"),
    ],
)
def test_anything_else_leaves_what_was_there(how, words, home, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"before")
    url = f"{home}/absent.bin" if how == "absent" else f"{home}/{how}/x.bin"
    with pytest.raises(InputError, match=words):
        download(url, FILE, tmp_path, timeout=0.5)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.bin", b"before")]


def test_a_file_that_does_not_end_is_left_at_its_size(home, tmp_path):
    short = RemoteFile("x.bin", 1000, FILE.sha256)
    with pytest.raises(InputError, match="longer than 1,000 bytes"):
        download(f"{home}/x.bin", short, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nobody_answers_and_other_protocols(tmp_path):
    with pytest.raises(InputError, match="cannot be fetched"):
        download("http://127.0.0.1:9/x.bin", FILE, tmp_path, timeout=2)
    with pytest.raises(InputError, match="is no address"):
        download("file:///etc/passwd", FILE, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="TILTFLOW_DATA"):
        download("http://127.0.0.1:9/x.bin", FILE, tmp_path / "file")


# Sets --------------------------------------------------------------------------------------------


def remote(name, data):
    Home.files[name] = data
    return RemoteFile(name, len(data), hashlib.sha256(data).hexdigest())


def idx(array):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes(), mtime=0)


def small_mnist(images, labels, content=None):
    """A set like MNIST, of 40 and 20 rows."""
    parts = (images[:40], labels[:40], images[40:], labels[40:])
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
             "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")  # fmt: skip
    files = tuple(remote(name, idx(part)) for name, part in zip(names, parts, strict=True))
    whole = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    return PublicSet("http://127.0.0.1:9", files, content or whole)


IMAGES = RNG.integers(0, 256, (60, 28, 28), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 60, dtype=np.uint8)


def test_a_set_is_downloaded_once(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_DATA", str(tmp_path))
    monkeypatch.setenv("TILTFLOW_DATA_URL", home)
    monkeypatch.setitem(public.SETS, "mnist", small_mnist(IMAGES, LABELS))
    found = load("mnist")
    assert (found.name, found.test_rows, found.integers) == ("mnist", 20, True)
    np.testing.assert_array_equal(found.values, IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    monkeypatch.setenv("TILTFLOW_DATA_URL", "http://127.0.0.1:9")
    assert load("mnist").fingerprint == found.fingerprint
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be fetched"):
        load("mnist")


def test_a_set_that_decodes_to_something_else_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_DATA", str(tmp_path))
    monkeypatch.setenv("TILTFLOW_DATA_URL", home)
    monkeypatch.setitem(public.SETS, "mnist", small_mnist(IMAGES, LABELS, content="0" * 64))
    with pytest.raises(InputError, match="is not mnist as it was published"):
        load("mnist")


def test_an_archive_in_the_folder_is_as_good(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_DATA", str(tmp_path))
    known = small_mnist(IMAGES, LABELS)
    monkeypatch.setitem(public.SETS, "fashion-mnist", known)
    arrays = {"x_train": IMAGES[:40], "y_train": LABELS[:40], "x_test": IMAGES[40:]}
    np.savez(tmp_path / "fashion_mnist.npz", **arrays, y_test=LABELS[40:])
    np.testing.assert_array_equal(load("fashion-mnist").values, IMAGES)
    (tmp_path / "fashion_mnist.npz").rename(tmp_path / "fashion-mnist.npz")
    np.testing.assert_array_equal(load("fashion-mnist").values, IMAGES)
    (tmp_path / "fashion-mnist.npz").unlink()
    np.savez(tmp_path / "fashion_mnist.npz", **arrays, y_test=LABELS[:20])
    with pytest.raises(InputError, match="its images or labels differ"):
        load("fashion-mnist")


def test_cifar10_is_read_from_its_binary_archive(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_DATA", str(tmp_path))
    monkeypatch.setenv("TILTFLOW_DATA_URL", home)
    images = RNG.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels = RNG.integers(0, 10, 60, dtype=np.uint8)
    records = np.column_stack([labels, images.transpose(0, 3, 1, 2).reshape(60, -1)])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for number in range(6):
            part = records[10 * number : 10 * number + 10].tobytes()
            name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(part)
            archive.addfile(info, io.BytesIO(part))
    file = remote("cifar-10-binary.tar.gz", stream.getvalue())
    monkeypatch.setitem(public.SETS, "cifar10", PublicSet("http://127.0.0.1:9", (file,)))
    found = load("cifar10")
    assert (found.shape, found.test_rows) == ((32, 32, 3), 10)
    np.testing.assert_array_equal(found.values, images)
    np.testing.assert_array_equal(found.labels, labels)


def test_the_folder_of_sets(monkeypatch, tmp_path):
    monkeypatch.setenv("TILTFLOW_DATA", str(tmp_path))
    assert public.data_folder() == tmp_path
    monkeypatch.delenv("TILTFLOW_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(public.sys, "platform", "linux")
    assert public.data_folder() == tmp_path / "tiltflow"
    monkeypatch.setattr(public.sys, "platform", "darwin")
    assert public.data_folder() == Path.home() / "Library" / "Caches" / "tiltflow"
    monkeypatch.setattr(public.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert public.data_folder() == tmp_path / "tiltflow" / "Cache"


@pytest.mark.skipif(not (SHARED / "mnist.npz").exists(), reason="the sets are not here")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_sets_decode_to_what_is_expected(name, monkeypatch):
    monkeypatch.setenv("TILTFLOW_DATA", str(SHARED))
    found = load(name, images=True)
    assert (found.rows, found.shape, found.test_rows) == (70_000, (28, 28), 10_000)


@pytest.mark.skipif(not (SHARED / "mnist.npz").exists(), reason="the sets are not here")
@pytest.mark.parametrize(
    ("file", "shape", "rows", "test_rows"),
    [
        ("cifar10_lossless_subset.npz", (32, 32, 3), 6_102, 1_017),
        ("notmnist/t10k-images-idx3-ubyte.gz", (28, 28), 10_000, 0),
        ("adbench/12_fault.npz", (27,), 1_941, 0),
        ("uci/protein/data.csv.gz", (10,), 45_730, 0),
    ],
)
def test_real_files_load_by_their_path(file, shape, rows, test_rows):
    found = load(SHARED / file)
    assert (found.shape, found.rows, found.test_rows) == (shape, rows, test_rows)
    assert (found.labels is not None) == ("uci" not in file)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "cifar10_jpeg.npz").exists(), reason="the sets are not here")
def test_cifar10_as_jpeg():
    found = load(SHARED / "cifar10_jpeg.npz", images=True)
    assert (found.rows, found.shape, found.test_rows) == (60_000, (32, 32, 3), 10_000)
    np.testing.assert_array_equal(np.bincount(found.labels), np.full(10, 6_000))
