"""Tables, idx files, folders of images and large arrays: what each gives, and what it refuses."""

import gzip
import struct
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from tiltflow.data import limits, load, split
from tiltflow.errors import InputError

pyarrow = pytest.importorskip("pyarrow")
Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)
REALS = RNG.normal(size=(30, 3))
BYTES = RNG.integers(0, 256, size=(30, 6, 5), dtype=np.uint8)


def idx(array, kind=0x08):
    header = struct.pack(">BBBB", 0, 0, kind, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + np.ascontiguousarray(array).tobytes()


def parquet(path, **columns):
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def picture(path, array):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def refused(source, **options):
    with pytest.raises(InputError) as caught:
        load(source, **options)
    return str(caught.value)


# Tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_tabs(name, tmp_path):
    text = "a\tb\tc\n" + "\n".join("\t".join(map(str, row.tolist())) for row in REALS)
    data = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
    (tmp_path / name).write_bytes(data)
    found = load(tmp_path / name)
    assert found.columns == ("a", "b", "c")
    np.testing.assert_array_equal(found.values, REALS.astype(np.float32))


def test_parquet(tmp_path):
    path = parquet(tmp_path / "x.parquet", a=REALS[:, 0], b=np.arange(30), c=REALS[:, 2])
    found = load(path)
    assert (found.columns, found.integers) == (("a", "b", "c"), False)
    np.testing.assert_array_equal(found.values[:, 1], np.arange(30))
    np.testing.assert_array_equal(found.values[:, 0], REALS[:, 0].astype(np.float32))
    counts = load(parquet(tmp_path / "y.parquet", a=np.arange(600), b=np.arange(600) % 2 == 0))
    assert counts.integers
    huge = load(parquet(tmp_path / "z.parquet", a=np.arange(30, dtype=np.uint64) * 2**58 + 2**63))
    assert huge.values.min() > 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [b"x"] * 30}, "column 'a' holds binary"),
        ({"a": [[1.0]] * 30}, "column 'a' holds list"),
        ({"a": [1.0] * 20 + [None] * 10}, "column 'a', row 20 is missing"),
        ({"a": np.zeros(0)}, "0 of 0 rows"),
        ({}, "no columns"),
    ],
)
def test_parquet_that_is_no_table_of_numbers(columns, words, tmp_path):
    assert words in refused(parquet(tmp_path / "x.parquet", **columns))


def test_an_extra_that_is_not_installed_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "pictures" / "a.png", BYTES[0])
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "pip install 'tiltflow[" in refused(tmp_path / "pictures")


# idx ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0E, ">f8")]
)
def test_idx_of_every_type(kind, dtype, tmp_path):
    array = (BYTES // 2).astype(dtype)
    (tmp_path / "x-idx3-ubyte").write_bytes(idx(array, kind))
    (tmp_path / "x.idx.gz").write_bytes(gzip.compress(idx(array, kind)))
    for name in ("x-idx3-ubyte", "x.idx.gz"):
        np.testing.assert_array_equal(load(tmp_path / name).values, array)


def test_labels_beside_idx_images(tmp_path):
    labels = np.arange(30, dtype=np.uint8)
    (tmp_path / "t-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(BYTES)))
    (tmp_path / "t-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    np.testing.assert_array_equal(load(tmp_path / "t-images-idx3-ubyte.gz").labels, labels)
    assert "labels are not data" in refused(tmp_path / "t-labels-idx1-ubyte.gz")


# Pictures ----------------------------------------------------------------------------------------


def test_a_folder_of_grey_images_in_the_order_of_names(tmp_path):
    for number in reversed(range(30)):
        picture(tmp_path / "p" / f"{number:02d}.png", BYTES[number])
    (tmp_path / "p" / "readme.txt").write_text("left out")
    found = load(tmp_path / "p")
    assert (found.name, found.integers, found.labels) == ("p", True, None)
    np.testing.assert_array_equal(found.values, BYTES)


def test_subfolders_are_labels(tmp_path):
    for number in range(30):
        picture(tmp_path / "p" / "x.png", BYTES[0]).unlink()
        folder = tmp_path / "p" / f"class{number % 3}"
        picture(folder / f"{number:02d}.bmp", BYTES[number])
    found = load(tmp_path / "p")
    np.testing.assert_array_equal(found.labels, np.repeat([0, 1, 2], 10))
    np.testing.assert_array_equal(found.values, BYTES[np.argsort(np.arange(30) % 3, kind="stable")])


def test_images_are_scaled_and_cut_to_the_middle(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (200, 100, 50)
    for number in range(20):
        picture(tmp_path / "p" / f"{number:02d}.png", wide if number else wide[:, :, 0])
    assert "pass --channels" in refused(tmp_path / "p")
    found = load(tmp_path / "p", image_size=10, channels="rgb")
    assert found.shape == (10, 10, 3)
    np.testing.assert_array_equal(found.values[1, 5, 5], [200, 100, 50])
    assert found.values[1].min() >= 40  # what lies beside the middle square is cut off
    grey = load(tmp_path / "p", image_size=10, channels="grey")
    assert grey.shape == (10, 10)
    assert "one size" not in refused(tmp_path / "p", image_size=0)


def test_pictures_of_different_sizes_are_refused(tmp_path):
    for number in range(20):
        picture(tmp_path / "p" / f"{number:02d}.png", BYTES[number][: 5 if number == 7 else 6])
    message = refused(tmp_path / "p")
    assert "00.png has 5 x 6 pixels and 07.png 5 x 5" in message
    assert "--image-size" in message


def test_transparency_is_not_dropped_in_silence(tmp_path):
    clear = np.full((6, 6, 4), 9, np.uint8)
    for number in range(20):
        picture(tmp_path / "p" / f"{number:02d}.png", clear)
    assert "transparency" in refused(tmp_path / "p")
    assert load(tmp_path / "p", channels="rgb").shape == (6, 6, 3)
    (tmp_path / "q").mkdir()
    for number in range(20):  # a palette of which one colour is clear, as in a picture of the web
        image = Image.new("P", (6, 6), number)
        image.save(tmp_path / "q" / f"{number:02d}.png", transparency=3)
    assert "transparency" in refused(tmp_path / "q")
    assert load(tmp_path / "q", channels="rgb").shape == (6, 6, 3)


def test_more_than_8_bits_are_not_offered_a_conversion(tmp_path):
    (tmp_path / "p").mkdir()
    for number in range(20):
        deep = np.full((6, 6), 300 + number, np.uint16)
        Image.fromarray(deep).save(tmp_path / "p" / f"{number:02d}.png")
    for how in ({}, {"channels": "grey"}):
        message = refused(tmp_path / "p", **how)
        assert "00.png has more than 8 bits a pixel; expected 8: scale the pictures" in message
        assert "--channels" not in message
    whole = np.stack([np.full((6, 6), 300 + number, np.uint16) for number in range(20)])
    np.save(tmp_path / "deep.npy", whole + np.arange(6, dtype=np.uint16))
    assert load(tmp_path / "deep.npy").integers  # as the message says


def test_jpegs_in_an_archive(tmp_path):
    import io

    def stored(images):
        parts = []
        for image in images:
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "JPEG", quality=95)
            parts.append(np.frombuffer(stream.getvalue(), np.uint8))
        return np.concatenate(parts), np.cumsum([0, *map(len, parts)])

    smooth = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 8, 8, 3)) * 8
    data, offsets = stored(smooth)
    test, test_offsets = stored(smooth[:5])
    arrays = {
        "jpeg_train": data, "offset_train": offsets, "y_train": np.arange(30),
        "jpeg_test": test, "offset_test": test_offsets, "y_test": np.arange(5),
    }  # fmt: skip
    np.savez(tmp_path / "x.npz", **arrays)
    found = load(tmp_path / "x.npz")
    assert (found.rows, found.shape, found.test_rows) == (35, (8, 8, 3), 5)
    assert "JPEG" in found.note
    np.testing.assert_allclose(found.values[:30], smooth, atol=3)
    np.testing.assert_array_equal(found.labels, [*range(30), *range(5)])
    np.savez(tmp_path / "x.npz", **{**arrays, "offset_train": offsets[::-1]})
    assert "does not rise" in refused(tmp_path / "x.npz")


# Archives with labels and test rows --------------------------------------------------------------


def test_an_official_split_is_kept(tmp_path):
    labels = np.arange(30)
    np.savez(tmp_path / "x.npz", x_train=REALS, y_train=labels, x_test=-REALS, y_test=labels)
    found = load(tmp_path / "x.npz")
    assert (found.rows, found.test_rows) == (60, 30)
    test = np.sort(split(found).test)
    np.testing.assert_array_equal(found.values[test], -REALS.astype(np.float32))
    np.testing.assert_array_equal(found.labels, np.tile(labels, 2))
    train = load(tmp_path / "x.npz", key="x_train")
    assert (train.rows, train.test_rows) == (30, 0)
    np.testing.assert_array_equal(train.labels, labels)


def test_labels_beside_data_need_no_key(tmp_path):
    np.savez(tmp_path / "x.npz", X=REALS, y=np.arange(30))
    np.testing.assert_array_equal(load(tmp_path / "x.npz").labels, np.arange(30))
    np.savez(tmp_path / "x.npz", X=REALS, y=REALS[:, 0])
    assert load(tmp_path / "x.npz").labels is None


# Larger than memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", ">i2", "uint8", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mapped_file_is_the_same_data(dtype, order, tmp_path, monkeypatch):
    array = np.asarray((REALS * 40).astype(dtype), order=order)
    np.save(tmp_path / "x.npy", array)
    whole = load(tmp_path / "x.npy")
    monkeypatch.setattr(limits, "MAPPED", 1)
    mapped = load(tmp_path / "x.npy")
    assert isinstance(mapped.values, np.memmap)
    assert not isinstance(whole.values, np.memmap)
    assert mapped.fingerprint == whole.fingerprint
    assert mapped.integers == whole.integers
    part = mapped.take(np.array([4, 2]))
    assert part.values.dtype == np.float32
    assert not isinstance(part.values, np.memmap)
    np.testing.assert_array_equal(part.values, whole.values[[4, 2]])


def test_a_file_far_larger_than_what_is_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAPPED", 2**20)
    monkeypatch.setattr(limits, "LARGEST", 2**20)
    monkeypatch.setattr(limits, "BLOCK", 2**16)
    rows = 2**19
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (rows, 16))
    for start in range(0, rows, 2**14):
        array[start : start + 2**14] = RNG.normal(size=(2**14, 16))
    array.flush()
    del array
    tracemalloc.start()
    found = load(tmp_path / "x.npy")
    _ = found.fingerprint
    taken = found.take(np.arange(0, rows, 4096))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.values.nbytes == 2**26
    assert taken.rows == 128
    assert peak < 2**24


def test_what_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", x=REALS)
    (tmp_path / "x.csv").write_text("1,2\n" * 30)
    (tmp_path / "x.idx").write_bytes(idx(BYTES))
    parquet(tmp_path / "x.parquet", a=REALS[:, 0])
    picture(tmp_path / "p" / "a.png", BYTES[0])
    monkeypatch.setattr(limits, "LARGEST", 64)
    for name in ("x.npz", "x.csv", "x.idx", "x.parquet", "p"):
        message = refused(tmp_path / name)
        assert "values; expected at most 16" in message
        assert ".npy" in message


# What claims more than it holds ------------------------------------------------------------------


def test_a_bomb_in_gzip_is_refused_early(tmp_path, monkeypatch):
    from tiltflow.data import text

    monkeypatch.setattr(text, "EXPANDED", 2**20)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress((b"0" * 80 + b"\n") * 2**17))
    assert "expands to more than 200 times" in refused(tmp_path / "x.csv.gz")
    monkeypatch.setattr(text, "MOST_BLANK", 2**10)
    (tmp_path / "x.csv").write_bytes(b"\n" * 2**12)
    assert "blank lines" in refused(tmp_path / "x.csv")
    monkeypatch.setattr(text, "LONGEST_LINE", 2**10)
    (tmp_path / "x.csv").write_bytes(b"1," * 2**12)
    assert "a line of more than" in refused(tmp_path / "x.csv")


def test_an_archive_that_claims_too_much_is_refused_before_it_is_read(tmp_path):
    claim = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 1000)}\n"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(claim)) + claim
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head + bytes(1000))
    tracemalloc.start()
    assert "is truncated" in refused(tmp_path / "x.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", head)
    assert "compressed by method 14" in refused(tmp_path / "x.npz")


def test_a_bomb_of_pixels_is_refused(tmp_path):
    path = picture(tmp_path / "p" / "a.png", BYTES[0])
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    assert "pixels" in refused(tmp_path / "p")


def test_names_from_a_stranger_do_not_reach_the_terminal_as_commands(tmp_path):
    np.savez(tmp_path / "x.npz", **{"\x1b[2Ja": REALS, "b\nc": REALS})
    message = refused(tmp_path / "x.npz")
    assert "\x1b" not in message
    assert "\n" not in message


@pytest.mark.parametrize("labels", [["cat", "dog"], [object(), object()], [0.5, 1.5]])
def test_labels_that_are_no_integers_are_left_out(labels, tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 3))
    np.savez(tmp_path / "x.npz", X=rows, y=np.array(labels * (len(rows) // 2)))
    assert load(tmp_path / "x.npz").labels is None
    np.savez(tmp_path / "x.npz", X=rows, y=np.arange(len(rows)))
    np.testing.assert_array_equal(load(tmp_path / "x.npz").labels, np.arange(len(rows)))
