"""Tables in text: the fast reader reads what the exact one does, or leaves it to that one."""

import gzip
import struct

import numpy as np
import pyarrow.csv
import pytest

from tiltflow.data import fast_rows, load
from tiltflow.data.batches import read_batches
from tiltflow.data.exact_rows import exact_batches
from tiltflow.data.fast_rows import batches
from tiltflow.data.text import head_of
from tiltflow.errors import InputError

X = np.random.default_rng(0).normal(size=(40, 3))
TEXT = "a,b,c\n" + "\n".join(",".join(map(str, row)) for row in X.tolist()) + "\n"
CELLS = (
    "1", " 1", "1 ", "+1", "-0", "007", "1.", ".5", "1e5", "1E+5", "1e400", "1e-400", "5e-324",
    "1_0", "0x10", "1d3", "nan", "NaN", "inf", "-Infinity", "", " ", '"1"', '"1"2', "true", "NA",
    "null", "1;5", "1\t5", "\u0661", "1\u00a0", "\x00", "1\r",
    "0.1000000000000000055511151231257827",
    "123456789012345678901234567890", "9007199254740993", "1,5", "1\n", "red", "\ufeff1", "-", "1e",
)  # fmt: skip


def outcome(of, path):
    """The values that a reader gives, or the words of its refusal."""
    try:
        head = head_of(path)
        found = [values for values, _ in of(path, head, range(head.width))]
    except InputError as error:
        return str(error)
    return head.names, np.concatenate(found or [np.empty((0, head.width))])


def agree(path):
    fast, exact = outcome(batches, path), outcome(exact_batches, path)
    if isinstance(fast, str) or isinstance(exact, str):
        return fast == exact
    return fast[0] == exact[0] and fast[1].tobytes() == exact[1].tobytes()  # NaN, -0 and all


@pytest.mark.parametrize("place", ["first", "middle", "last", "alone", "padding"])
def test_every_odd_cell_is_read_alike(place, tmp_path):
    path = tmp_path / "x.csv"
    for cell in CELLS:
        row = {"first": f"{cell},2,3", "middle": f"1,{cell},3", "alone": cell}.get(
            place, f"1,2,{cell}"
        )
        before = (
            "a\n1\n" if place == "alone" else "\n\n1,2,3\n\n \n" if place == "padding" else TEXT
        )
        path.write_text(before + row + "\n", encoding="utf-8", newline="")
        assert agree(path), repr(cell)


def test_a_reader_that_looks_at_quotes_in_its_own_way_would_be_seen(tmp_path, monkeypatch):
    """Power: what pyarrow does unless it is told otherwise, which makes 12 of it."""
    path = tmp_path / "x.csv"
    path.write_text(TEXT + '"1"2,2,3\n')
    assert agree(path)
    own = pyarrow.csv.ParseOptions
    usual = lambda **options: own(**options | {"quote_char": '"'})  # noqa: E731
    monkeypatch.setattr(pyarrow.csv, "ParseOptions", usual)
    assert not agree(path)


def test_what_only_the_fast_reader_takes_is_no_number(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(TEXT + "nan(1),2,3\n")
    assert np.isnan(outcome(batches, path)[1][-1, 0])
    with pytest.raises(InputError, match=r"NaN .* row 40, column 'a'"):
        load(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines_and_marks(end, tmp_path):
    path = tmp_path / "x.csv"
    for text in (TEXT, '"a, b","c\nd",e\n1,2,3\n4,5,6\n', "1,2,3\n4,5,6", "0,1,2\n3,4,5\n\n"):
        for mark in ("", "\ufeff"):
            path.write_text(mark + text.replace("\n", end), encoding="utf-8", newline="")
            assert agree(path), text


def packed(kind):
    if kind == ".gz":
        return gzip.compress(TEXT.encode())
    stream = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(stream, "zstd") as out:
        out.write(TEXT.encode())
    return stream.getvalue().to_pybytes()


@pytest.mark.parametrize("kind", [".gz", ".zst"])
def test_packed_text(kind, tmp_path):
    path = tmp_path / f"x.csv{kind}"
    content = packed(kind)
    path.write_bytes(content)
    data = load(path)
    assert data.columns == ("a", "b", "c")
    np.testing.assert_array_equal(data.values, X.astype(np.float32))
    for bad in (content[:-9], b"hello", TEXT.encode()):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="cannot be read"):
            load(path)


def test_what_is_read_far_into_a_file_is_not_read_twice(tmp_path, monkeypatch):
    """The exact reader goes on where the fast one stopped, and names the place in the file."""
    monkeypatch.setattr(fast_rows, "BLOCK", 2**9)
    path = tmp_path / "x.csv"
    more = '"7","8","9"\n' + TEXT.partition("\n")[2]
    path.write_text(TEXT + more)
    assert outcome(batches, path)[1].shape == (81, 3)
    assert agree(path)
    path.write_text(TEXT + "\n" + more + "1,2,red\n")
    assert "column 'c', row 81 (line 84) holds 'red'" in outcome(batches, path)


def test_a_separator_in_the_first_line_alone_is_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a;b;c\n1,1;2,2;3,3\n")
    with pytest.raises(InputError, match=r"has 4 columns; expected 1 .* ';' in it"):
        load(path)


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(TEXT.replace("c", "a", 1))
    with pytest.raises(InputError, match="more than one column 'a'"):
        load(path)
    path.write_text(TEXT.replace("a,b,c", ",,c", 1))  # none has a name
    assert load(path).columns == ("", "", "c")


# Batches -----------------------------------------------------------------------------------------


def rows_of(path, width=2, **options):
    found = read_batches(str(path), width, **options)
    some = list(found.rows)
    ids = None if some[0].ids is None else [one for batch in some for one in batch.ids]
    values = np.concatenate([batch.values for batch in some])
    starts = np.cumsum([0, *(len(batch.values) for batch in some)])
    assert [batch.start for batch in some] == starts[:-1].tolist()
    return found, values, ids


def named(path):
    """A table with names of rows, text that nobody wants, and its columns in another order."""
    rows = [f'"r,{i}",x{i},{b!r},{a!r}' for i, (a, b, _) in enumerate(X.tolist())]
    if path.suffix == ".csv":
        path.write_text("name,text,b,a\n" + "\n".join(rows) + "\n")
        return path
    from pyarrow import parquet

    names = [f"r,{i}" for i in range(len(X))]
    columns = {"name": names, "text": ["x"] * len(X), "b": X[:, 1], "a": X[:, 0]}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=7)
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_columns_are_found_by_name_and_one_is_passed_through(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(fast_rows, "BLOCK", 2**9)
    path = named(tmp_path / f"x{ending}")
    found, values, ids = rows_of(path, columns=("a", "b"), kept="name")
    np.testing.assert_array_equal(values, X[:, :2])
    assert [str(one) for one in ids] == [f"r,{i}" for i in range(len(X))]
    assert (found.columns, found.left_out) == (("a", "b"), ("text",))
    for options, words in (
        ({"columns": ("a", "z")}, "has no column 'z', that the model knows"),
        ({"columns": ("a", "b"), "kept": "id"}, "has no column 'id', that --id names"),
        ({"kept": "name"}, "has 3 columns beside 'name'; expected 2"),
        ({"columns": ("a", "text")}, "text"),
    ):
        with pytest.raises(InputError, match=words):
            rows_of(path, **options)


def test_batches_of_arrays_and_of_tables_without_names(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.csv").write_text(TEXT.partition("\n")[2])
    for name in ("x.npy", "x.csv"):
        found, values, ids = rows_of(tmp_path / name, 3, columns=("a", "b", "c"))
        np.testing.assert_array_equal(values, X)
        assert (found.columns, ids) == (None, None)
        with pytest.raises(InputError, match="leave out --id a"):
            rows_of(tmp_path / name, 3, kept="a")


def test_floats_of_32_bits_are_those_of_their_text(tmp_path):
    """Every power of two between the smallest and the largest, and what lies beside it."""
    bits = [
        struct.unpack("f", struct.pack("I", e << 23 | m))[0] for e in range(255) for m in (0, 1)
    ]
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "\n".join(f"{b!r},{np.float32(b)!s}" for b in bits) + "\n")
    values = outcome(batches, path)[1]
    assert agree(path)
    np.testing.assert_array_equal(values[:, 0], bits)
