"""Every good source loads as stated; every bad one is refused in one line."""

import gzip
import io
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiltflow.data import load
from tiltflow.errors import InputError

REALS = np.random.default_rng(0).normal(size=(30, 3))
COUNTS = np.random.default_rng(1).integers(0, 17, size=(30, 4, 4))


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def table(array, header="", separator=",") -> bytes:
    lines = [header] if header else []
    lines += [separator.join(str(float(value)) for value in row) for row in array]
    return "\n".join(lines).encode() + b"\n"


def header_of(text: str) -> bytes:
    """A .npy file of which only the header is there."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def with_value(value, row=7, column=1):
    array = REALS.copy()
    array[row, column] = value
    return array


def encrypted() -> bytes:
    """An archive whose only member claims to be encrypted."""
    data = bytearray(npz(x=REALS))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def no_arrays() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return stream.getvalue()


# What loads --------------------------------------------------------------------------------------


def test_digits_are_the_embedded_default():
    digits = load("digits")
    assert (digits.name, digits.rows, digits.shape) == ("digits", 1797, (8, 8))
    assert digits.values.dtype == np.float32
    assert digits.integers
    assert (digits.values.min(), digits.values.max()) == (0, 16)
    assert digits.labels is not None
    assert np.array_equal(np.unique(digits.labels), np.arange(10))


def test_data_import_without_jax_or_scikit_learn():
    code = "import sys, tiltflow.data; assert not {'jax', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.npy", npy(REALS)),
        ("x.NPY", npy(np.asfortranarray(REALS), version=(2, 0))),
        ("x.npy", npy(REALS.astype(">f8"))),
        ("x.npz", npz(x=REALS)),
        ("x.csv", table(REALS)),
        ("x.csv", table(REALS, "a,b,c").replace(b"\n", b"\r\n")),
        ("x.csv", b"\xef\xbb\xbf" + table(REALS, '"a","b",3') + b"\n\n"),
        ("x.csv.gz", gzip.compress(table(REALS, "a,b,c"))),
    ],
)
def test_every_format_gives_the_same_values(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    data = load(tmp_path / name)
    assert np.array_equal(data.values, REALS.astype(np.float32))
    assert data.values.flags.writeable
    assert (data.name, data.integers, data.labels) == (name, False, None)


@pytest.mark.parametrize("array", [REALS, REALS.tolist()], ids=["array", "lists"])
def test_what_is_in_memory_is_checked_like_what_is_in_a_file(array):
    data = load(array)
    assert np.array_equal(data.values, REALS.astype(np.float32))
    assert (data.name, data.integers) == ("array", False)
    assert load(np.rint(100 * REALS), integers=True).integers


@pytest.mark.parametrize(
    ("array", "how", "words"),
    [
        (REALS * [1, np.nan, 1], {}, "the array has NaN or infinite values"),
        (REALS[:, 0], {}, "the array has shape"),
        (np.array([{}] * 30), {}, "the array has dtype object"),
        (REALS[:5], {}, "the array has 5 rows"),
        (REALS, {"key": "x"}, "an array has no key x"),
    ],
)
def test_an_array_that_is_no_data(array, how, words):
    with pytest.raises(InputError, match=words):
        load(array, **how)


def test_a_header_names_the_columns(tmp_path):
    (tmp_path / "x.csv").write_bytes(table(REALS, "a, b,c"))
    (tmp_path / "y.csv").write_bytes(table(REALS))
    assert load(tmp_path / "x.csv").columns == ("a", "b", "c")
    assert load(tmp_path / "y.csv").columns is None
    for header, names in (("a,b,c", ("a", "b", "c")), ("", None)):  # a mark at the beginning
        (tmp_path / "z.csv").write_bytes(b"\xef\xbb\xbf" + table(REALS, header))
        assert load(tmp_path / "z.csv").columns == names


@pytest.mark.parametrize(
    ("header", "names", "note"),
    [
        ("0,1,2", ("0", "1", "2"), "the first line counts the columns"),
        ("a,b,c", ("a", "b", "c"), ""),
        ("0,1,3", None, ""),
        ("0.0,1.0,2.0", None, ""),
        (
            "NA,1.5,2.5",
            ("NA", "1.5", "2.5"),
            "2 of 3 cells of the first line are numbers, and it was taken",
        ),
    ],
)
def test_columns_that_are_counted_have_a_header(tmp_path, header, names, note):
    (tmp_path / "x.csv").write_bytes(table(REALS, header))
    data = load(tmp_path / "x.csv")
    assert (data.columns, data.rows) == (names, len(REALS) + (names is None))
    assert data.note.startswith(note)
    assert bool(data.note) == bool(note)


def test_two_columns_that_begin_with_0_and_1_have_none(tmp_path):
    (tmp_path / "x.csv").write_bytes(table(REALS[:, :2], "0,1"))
    assert load(tmp_path / "x.csv").rows == len(REALS) + 1


def test_a_column_that_counts_the_rows_is_told(tmp_path):
    """As a table is written with its index: `,a,b`, then 0, 1, 2 and so on in the first column."""
    count = np.arange(len(REALS))
    for name, first in (("x.csv", count + 7), ("y.csv", count**1.01)):
        (tmp_path / name).write_bytes(table(np.c_[first, REALS], ",a,b,c"))
    assert "column '' counts the rows" in load(tmp_path / "x.csv").note
    assert load(tmp_path / "y.csv").note == ""


def test_a_key_picks_one_of_several_arrays(tmp_path):
    (tmp_path / "x.npz").write_bytes(npz(x=REALS, y=COUNTS))
    data = load(str(tmp_path / "x.npz"), key="y")
    assert (data.shape, data.integers) == ((4, 4), True)
    assert np.array_equal(data.values, COUNTS)


MANY_LEVELS = np.arange(600.0).reshape(300, 2)


@pytest.mark.parametrize(
    ("array", "integers"),
    [
        (COUNTS.astype(np.uint8), True),
        (COUNTS > 8, True),
        (COUNTS.astype(np.float16), True),
        (COUNTS + 0.5, False),
        (MANY_LEVELS.astype(int), True),
        (MANY_LEVELS, False),
        (MANY_LEVELS[:128], True),
        (MANY_LEVELS.astype(int) * 1000, False),
        (np.array([[-128], [127]] * 15, np.int8), True),
    ],
)
def test_integers_are_recognised(tmp_path, array, integers):
    np.save(tmp_path / "x.npy", array)
    assert load(tmp_path / "x.npy").integers is integers


@pytest.mark.parametrize("integers", [True, False])
def test_the_users_word_overrides_the_guess(tmp_path, integers):
    np.save(tmp_path / "x.npy", MANY_LEVELS)
    assert load(tmp_path / "x.npy", integers=integers).integers is integers


def test_a_folder_called_as_a_set_is_reached_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for source in (Path("digits"), "./digits"):
        with pytest.raises(InputError, match="digits is a folder without images"):
            load(source)
    assert load("digits").rows == 1797


def test_take_keeps_values_and_labels_together():
    digits = load("digits")
    assert digits.labels is not None
    part = digits.take(np.array([5, 3]))
    assert part.labels is not None
    assert np.array_equal(part.values, digits.values[[5, 3]])
    assert np.array_equal(part.labels, digits.labels[[5, 3]])


def test_the_fingerprint_is_of_values_and_shape(tmp_path):
    """And of nothing else, such as where they lie or how they are written."""
    np.save(tmp_path / "x.npy", REALS)
    (tmp_path / "y.csv").write_bytes(table(REALS.astype(np.float32)))
    same = load(tmp_path / "x.npy").fingerprint
    assert load(tmp_path / "y.csv").fingerprint == same
    others = (load(with_value(0.5)), load(REALS.reshape(-1, 1)), load(REALS[::-1].copy()))
    assert same not in {other.fingerprint for other in others}


def test_rows_to_score_may_be_few_and_columns_constant(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, REALS[:2] * [1, 0, 1])
    assert load(path, to_score=True).rows == 2
    with pytest.raises(InputError, match="2 rows; expected at least 20"):
        load(path)
    np.save(path, REALS[:1])
    with pytest.raises(InputError, match="1 rows; expected at least 2"):
        load(path, to_score=True)


# What is refused ---------------------------------------------------------------------------------

STRUCTURED = np.zeros(30, dtype=[("a", "f4"), ("b", "f4")])
HUGE = header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 1000)}")
DEEP = header_of("(" * 5000)
LONG = header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (30, 3)}" + " " * 12_000)

REFUSED = {
    "unknown extension": ("x.txt", b"1", "extension '.txt' expected .npy"),
    "a gzipped .npy": ("x.npy.gz", gzip.compress(npy(REALS)), "extension '.gz' .csv.gz"),
    "empty .npy": ("x.npy", b"", "x.npy is empty"),
    "empty .csv": ("x.csv", b"", "x.csv is empty"),
    "only blank lines": ("x.csv", b"\n\n", "blank lines"),
    "only a header": ("x.csv", b"a,b\n", "0 rows at least 20"),
    "few rows": ("x.npy", npy(REALS[:19]), "19 rows at least 20"),
    "one row": ("x.csv", table(REALS[:1]), "1 rows at least 20"),
    "no rows": ("x.npy", npy(REALS[:0]), "shape (0, 3) no values"),
    "no columns": ("x.npy", npy(REALS[:, :0]), "shape (30, 0) no values"),
    "0-d": ("x.npy", npy(1.0), "shape () 2 to 4 axes"),
    "1-d": ("x.npy", npy(REALS[:, 0]), "shape (30,) reshape it to [N, 1]"),
    "5-d": ("x.npy", npy(REALS[:, :, None, None, None]), "shape (30, 3, 1, 1, 1) 2 to 4 axes"),
    "NaN": ("x.npy", npy(with_value(np.nan)), "NaN 1 of 30 rows row 7, column 1"),
    "infinity": ("x.csv", table(with_value(np.inf), "a,b,c"), "1 of 30 row 7, column 'b'"),
    "NaN in images": ("x.npy", npy(np.full((30, 2, 2), np.nan)), "30 of 30 entry (0, 0)"),
    "overflow": ("x.npy", npy(with_value(-1e39)), "-1e+39 row 7, column 1 float32 rescale"),
    "constant": ("x.npy", npy(REALS * [1, 0, 1]), "column 1 is constant drop it"),
    "constant, named": ("x.csv", table(REALS * [1, 0, 0], "a,b,c"), "'b' constant 2 of 3 drop"),
    "constant as float32": (
        "x.npy",
        npy(np.add(REALS, [0, 1e12, 0])),
        "column 1 is constant 1e+12",
    ),
    "object": (
        "x.npy",
        npy(np.array([[{}]] * 30), allow_pickle=True),
        "dtype object rows of different sizes",
    ),
    "structured": ("x.npy", npy(STRUCTURED), "dtype 'a' convert"),
    "complex": ("x.npy", npy(REALS + 1j), "dtype complex128 convert"),
    "strings": ("x.npy", npy(REALS.astype("U8")), "dtype <U8 convert"),
    "dates": ("x.npy", npy(REALS.astype("M8[s]")), "dtype datetime64[s] convert"),
    "truncated .npy": (
        "x.npy",
        npy(REALS)[:-1],
        "truncated 720 bytes 719 are there",
    ),
    "truncated header": ("x.npy", npy(REALS)[:20], "not a whole .npy numpy.save"),
    "not a .npy": ("x.npy", b"hello", "not a whole .npy"),
    "huge header": ("x.npy", HUGE, "truncated 80,000,000,000,000 bytes 0 are there"),
    "deep header": ("x.npy", DEEP, "not a whole .npy"),
    "long header": ("x.npy", LONG + REALS.tobytes(), "header of 12,058 bytes, at most 10,000"),
    "negative shape": ("x.npy", npy(REALS).replace(b"(30, 3)", b"(-9, 3)"), "shape (-9, 3)"),
    "version 3": ("x.npy", npy(REALS, version=(3, 0)), "version (3, 0) expected (1, 0)"),
    "truncated .npz": ("x.npz", npz(x=REALS)[:-30], "not a whole .npz numpy.savez"),
    "not a .npz": ("x.npz", npy(REALS), "not a whole .npz"),
    "damaged .npz": ("x.npz", npz(x=REALS).replace(b"x.npy", b"y.npy", 1), "not a whole .npz"),
    "encrypted .npz": ("x.npz", encrypted(), "not a whole .npz encrypted"),
    "object in .npz": ("x.npz", npz(x=np.array([[{}]])), "array 'x' dtype object"),
    "no arrays": ("x.npz", no_arrays(), "holds no arrays"),
    "two arrays": ("x.npz", npz(x=REALS, y=REALS), "2 arrays (x, y) --key NAME"),
    "text": ("x.csv", table(REALS, "a,b,c") + b"1,red,2\n", "'b' row 30 (line 32) 'red'"),
    "text, no header": ("x.csv", table(REALS) + b"1,2,1_0\n", "column 2 row 30 (line 31) '1_0'"),
    "missing value": ("x.csv", table(REALS) + b"1,,2\n", "column 1 row 30 (line 31) is blank"),
    "semicolons": ("x.csv", table(REALS, "a;b;c", ";"), "row 0 (line 2) expected commas"),
    "ragged": ("x.csv", table(REALS) + b"\n1,2\n", "row 30 (line 32) 2 columns expected 3"),
    "open quote": ("x.csv", table(REALS) + b'1,2,"3\n', "line 31 comma-separated"),
    "not UTF-8": ("x.csv", table(REALS).decode().encode("utf-16"), "not UTF-8"),
    "truncated .gz": ("x.csv.gz", gzip.compress(table(REALS))[:-9], "cannot be read"),
    "not a .gz": ("x.csv.gz", table(REALS), "cannot be read gzipped"),
}


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_words(message: str, words: str) -> None:
    """Every word of `words` stands in `message`."""
    assert not [word for word in words.split() if word not in message], message


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    name, content, words = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert message.startswith(str(tmp_path / name))
    assert_words(message, words)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("imagenet", "unknown data set 'imagenet' expected digits mnist .npy"),
        ("missing.npy", "missing.npy does not exist"),
        ("folder", "folder is a folder"),
        ("folder.npy", "folder.npy is a folder"),
        ("file.npy/x.npy", "cannot be read"),
        ("a\0b.npy", "cannot be read"),
        ("x" * 300 + ".csv", "cannot be read"),
        ("", "is a folder"),
    ],
)
def test_bad_paths_are_refused(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder.npy"):
        Path(name).mkdir()
    np.save("file.npy", REALS)
    assert_words(refusal(source), words)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv"])
def test_a_file_that_may_not_be_read(tmp_path, monkeypatch, name):
    def deny(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_bytes(b"1")
    monkeypatch.setattr(io, "open", deny)
    assert_words(refusal(tmp_path / name), "Permission denied")


def test_keys_that_are_not_there(tmp_path):
    (tmp_path / "x.npz").write_bytes(npz(x=REALS, y=REALS))
    np.save(tmp_path / "x.npy", REALS)
    assert_words(refusal(tmp_path / "x.npz", key="z"), "no array 'z' x, y --key")
    assert_words(refusal(tmp_path / "x.npy", key="z"), "no named arrays 'z'")
    assert_words(refusal("digits", key="z"), "no named arrays 'z'")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (REALS, "integers of magnitude at most 65,536 row 0, column 0"),
        (np.full((30, 1), 2**20), "1.04858e+06 row 0, column 0"),
    ],
)
def test_what_cannot_be_dequantised(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array)
    assert_words(refusal(tmp_path / "x.npy", integers=True), words)


def test_digits_as_continuous_data_have_constant_pixels():
    assert_words(refusal("digits", integers=False), "digits entry (0, 0) constant")


# What no table foresees --------------------------------------------------------------------------

VALID = {
    "x.npy": npy(REALS),
    "x.npz": npz(x=REALS),
    "x.csv": table(REALS, "a,b,c"),
    "x.csv.gz": gzip.compress(table(REALS), mtime=0),
}


@pytest.mark.parametrize("name", VALID)
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_files_load_or_are_refused(tmp_path, name, data):
    content = bytearray(VALID[name])
    # Half of the damage goes to the first 150 bytes, where the headers are.
    positions = st.integers(0, 150) | st.integers(0, len(content) - 1)
    for position, byte in data.draw(st.lists(st.tuples(positions, st.integers(0, 255)))):
        content[position] = byte
    length = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    (tmp_path / name).write_bytes(content[:length])
    with suppress(InputError):
        load(tmp_path / name)
