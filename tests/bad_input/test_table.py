"""The table of bad inputs: each is refused in the one line, and with the status, that it says."""

import numpy as np
import pytest
from bad_files import (
    PICTURES,
    REALS,
    config,
    gzipped,
    header,
    idx,
    npy,
    npz,
    parquet,
    png,
    raw_weights,
    table,
    weights,
    with_value,
    write_run,
    zipped,
)  # fmt: skip

from tiltflow.cli.main import run

pytest.importorskip("pyarrow")
pytest.importorskip("PIL.Image")

HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 1000)}"
OBJECTS = np.array([[{}, {}]] * 30)
MIXED = np.empty(2, object)
MIXED[:] = [PICTURES[0], PICTURES[0, :4]]
FLOATS = (PICTURES / 255).astype(np.float32)

# name of the file: (its content, the line after "tiltflow: FILE"); `data inspect --images` where
# the name begins with "images", else `fit`.
FILES = {
    # NumPy's formats
    "empty.npy": (b"", " is empty (0 bytes); write it again"),
    "hello.npy": (b"hello, world", " is not a whole .npy file (the magic string is not correct;"),
    "cut.npy": (npy(REALS)[:-40], " is truncated: shape (40, 3) of float64 needs 960 bytes and"),
    "cut_header.npy": (npy(REALS)[:20], " is not a whole .npy file ("),
    "huge.npy": (header(HUGE), " is truncated: shape (10000000000, 1000) of float64 needs 80,000,"),
    "deep.npy": (header("(" * 5000), " is not a whole .npy file ("),
    "code.npy": (header("__import__('os').system('true')"), " is not a whole .npy file ("),
    "objects.npy": (npy(OBJECTS, allow_pickle=True), " has dtype object: Python objects, or rows"),
    "sizes.npy": (npy(MIXED, allow_pickle=True), " has dtype object: Python objects, or rows of"),
    "text.npy": (npy(REALS.astype("U8")), " has dtype <U8; expected booleans, integers or floats"),
    "complex.npy": (npy(REALS + 1j), " has dtype complex128; expected booleans, integers or"),
    "labels.npy": (npy(np.arange(40)), " has shape (40,); expected [rows, columns]: reshape it to"),
    "scalar.npy": (npy(3.0), " has shape (); expected 2 to 4 axes"),
    "five.npy": (npy(np.ones((30, 1, 1, 1, 1))), " has shape (30, 1, 1, 1, 1); expected 2 to 4"),
    "no_rows.npy": (npy(REALS[:0]), " has shape (0, 3): no values; expected at least 1 on each"),
    "few.npy": (npy(REALS[:19]), " has 19 rows; expected at least 20"),
    "nan.npy": (npy(with_value(np.nan)), " has NaN or infinite values in 1 of 40 rows, first at"),
    "large.npy": (npy(with_value(1e39)), " holds 1e+39 at row 7, column 1; expected magnitudes"),
    "constant.npy": (npy(REALS * [1, 0, 1]), ": column 1 is constant, 0 in every row as float32"),
    "offset.npy": (npy(REALS * [1, 900, 1] + [0, 1.7e9, 0]), ": column 1 holds values of 1.69999"),
    "minus.npy": (npy(-abs(REALS) * [1, 0, 1]), ": column 1 is constant, 0 in every row as"),
    "hello.npz": (b"hello, world", " is not a whole .npz file (File is not a zip file); write it"),
    "cut.npz": (npz(x=REALS)[:-30], " is not a whole .npz file ("),
    "damaged.npz": (npz(x=REALS)[:90] + b"\1" + npz(x=REALS)[91:], " is not a whole .npz file ("),
    "two.npz": (npz(a=REALS, b=REALS), " holds 2 arrays (a, b); pass --key NAME"),
    "none.npz": (zipped("readme.txt", b"x"), " holds no arrays; write it again with numpy.savez"),
    "objects.npz": (npz(x=OBJECTS), ", array 'x' has dtype object"),
    "bomb.npz": (zipped("x.npy", header(HUGE) + bytes(10**6)), ", array 'x' is truncated: shape"),
    "lzma.npz": (zipped("x.npy", npy(REALS), 14), ", array 'x' is compressed by method 14; expect"),
    "shapes.npz": (npz(x_train=REALS, x_test=REALS[:, :2]), " holds x_train (40, 3) and x_test (4"),
    "offsets.npz": (npz(jpeg_train=np.zeros(9, np.uint8), offset_train=np.array([0, 99])),
                    ", array 'offset_train' does not rise from 0 to 9 bytes"),
    # text
    "blank.csv": (b"\n\n\n", " holds only blank lines; expected rows of numbers"),
    "header.csv": (b"a,b\n", " has 0 rows; expected at least 20"),
    "words.csv": (table(REALS) + b"1,red,2\n", ", column 1, row 40 (line 41) holds 'red'; expect"),
    "mixed.csv": (table(REALS, "a,b,c") + b"1,2,three\n", ", column 'c', row 40 (line 42) holds"),
    "missing.csv": (table(REALS) + b"1,,2\n", ", column 1, row 40 (line 41) is blank; expected a"),
    "ragged.csv": (table(REALS) + b"1,2\n", ", row 40 (line 41) has 2 columns; expected 3 as in"),
    "tabs.csv": (table(REALS, "a\tb\tc", "\t"), ", column 'a b c', row 0 (line 2) holds"),
    "semicolons.tsv": (table(REALS, "a;b;c", ";"), ", column 'a;b;c', row 0 (line 2) holds"),
    "quote.csv": (table(REALS) + b'1,2,"3\n', ", line 41 is not comma-separated text ("),
    "latin.csv": (table(REALS, "\xe4,b,c").decode().encode("latin-1"), " is not UTF-8 text ("),
    "null.csv": (table(REALS) + b"1,2,\0\n", ", column 2, row 40 (line 41) holds"),
    "nan.tsv": (table(with_value(np.nan), "a\tb\tc", "\t"), " has NaN or infinite values in 1 of"),
    "hello.csv.gz": (b"hello", " cannot be read (Not a gzipped file"),
    "cut.csv.gz": (gzipped(table(REALS))[:-9], " cannot be read (Compressed file ended before"),
    # Parquet, idx
    "hello.parquet": (b"hello, world", " is not a whole Parquet file ("),
    "cut.parquet": (parquet(a=REALS[:, 0])[:-5], " is not a whole Parquet file ("),
    "words.parquet": (parquet(a=["red"] * 30), ": nothing varies; expected a column"),
    "missing.parquet": (parquet(a=[1.0, None] * 20), ", column 'a', row 1 is missing; expected a"),
    "hello.idx": (b"hello", " begins with 68 65 6c 6c; expected the magic number of an idx file"),
    "cut-idx3-ubyte": (idx(PICTURES[..., 0])[:-1], " is truncated: shape (40, 8, 8) of uint8"),
    "huge.idx.gz": (gzipped(bytes([0, 0, 8, 2]) + b"\xff" * 8), " is truncated: shape (4294967295"),
    "labels-idx1-ubyte": (idx(np.arange(40, dtype=np.uint8)), " has shape (40,); expected [rows"),
    # images
    "one.npy": (npy(PICTURES[0]), " has shape (8, 8, 3): one image of 8 x 8 pixels; expected [row"),
    "one_of_many.npy": (npy(PICTURES[:1]), " has shape (1, 8, 8, 3): one image; expected [rows,"),
    "first.npy": (npy(PICTURES.transpose(0, 3, 1, 2)), " has shape (40, 3, 8, 8): channels come f"),
    "images_table.npy": (npy(REALS), " has shape (40, 3): a table in place of images; expected"),
    "images_labels.npy": (npy(np.arange(40)[:, None]), " has shape (40, 1): labels in place of"),
    "images_unit.npy": (npy(FLOATS), " holds float32 from 0 to 1; expected integers from 0 to 255"),
    "images_signed.npy": (npy(2 * FLOATS - 1), " holds float32 from -1 to 1; expected integers fr"),
    "images_deep.npy": (npy(PICTURES.astype(np.uint16) * 257), " holds uint16 from 0 to 65535; ex"),
    "images_nan.npy": (npy(FLOATS * np.nan), " has NaN or infinite values, first at row 0, entry"),
    "images_planes.npy": (npy(PICTURES[..., [0] * 7]), " has 7 channels; expected 1, 3 or 4; expe"),
    # names
    "unknown.xlsx": (b"PK", " has the unknown extension '.xlsx'; expected .npz, .npy, .csv"),
}  # fmt: skip

FOLDERS = {
    "no images": ({"readme.txt": b"x"}, "folder is a folder without images; expected files"),
    "sizes": (
        {"a.png": png(PICTURES[0]), "b.png": png(PICTURES[0, :5])},
        "a.png has 8 x 8 pixels and b.png 8 x 5; expected images of one size: pass --image-size",
    ),
    "kinds": (
        {"a.png": png(PICTURES[0]), "b.png": png(PICTURES[0, ..., 0])},
        "a.png is RGB and b.png is grey; expected one kind: pass --channels grey or",
    ),
    "damaged": ({"a.png": png(PICTURES[0])[:60]}, "folder/a.png is not a whole image ("),
    "no picture": ({"a.png": b"hello"}, "folder/a.png is not a whole image (cannot identify"),
    "another format": ({"a.png": b"%!PS-Adobe-3.0 EPSF-3.0\n"}, "folder/a.png is not a whole"),
    "one": ({"a.png": png(PICTURES[0])}, "folder has shape (1, 8, 8, 3): one image; expected"),
}

BAD_HEADER = {"tilt.level": {"dtype": "F32", "shape": [], "data_offsets": [0, 2**60]}}
ODD_NAMES = {"../../etc/passwd": np.zeros(1, np.float32)}

# name: (file of a run's model or of the run, its content, the line's words, the status)
MODELS = {
    "config: not JSON": ("config.json", b"{", "config.json is not JSON (", 2),
    "config: not text": ("config.json", b"\xff\xfe", "config.json is not JSON (", 2),
    "config: a list": ("config.json", b"[]", "config.json is not a JSON object", 2),
    "config: deep": ("config.json", b"[" * 10**5, "config.json is not JSON (", 2),
    "config: too large": ("config.json", b" " * (2**24 + 1), "expected at most 16,777,216", 2),
    "format": ("config.json", config(format=99), "has format 99; expected 1 to 2", 2),
    "units": ("config.json", config(model__units="magic"), "units 'magic' of a saved model", 2),
    "unknown key": ("config.json", config(model__hook="rm"), "the model's specification is", 2),
    "no levels": ("config.json", config(model__units="gaussianise"), "levels is 0; expected at", 2),
    "width": ("config.json", config(model__tilt_width=-1), "tilt_width is -1; expected a whole", 2),
    "huge width": ("config.json", config(model__tilt_width=10**6), "would have about", 2),
    "huge shape": ("config.json", config(model__data_shape=[2**40]), "would have about", 2),
    "many layers": ("config.json", config(model__tilt_depth=10**5), "tilt_depth is 100000", 2),
    "no splits": ("config.json", config(model__splits=0), "splits is 0; expected a whole", 2),
    "many splits": ("config.json", config(model__splits=3), "splits is 3; expected 1 to 1 for", 2),
    "splits of a word": ("config.json", config(model__splits=True), "splits is True; expected", 2),
    "many blocks": ("config.json", config(model__blocks=10**5), "blocks is 100000; expected at", 2),
    "dropout": ("config.json", config(model__tilt_dropout=float("nan")), "tilt_dropout is nan", 2),
    "no sampler": ("config.json", config(sampler=None), "config.json is damaged (TypeError", 2),
    "step": ("config.json", config(sampler__step_size=-1.0), "step_size is -1.0, expected a", 2),
    "step of text": ("config.json", config(sampler__step_size="1"), "step_size is '1', expect", 2),
    "leapfrogs": ("config.json", config(sampler__leapfrogs=10**9), "leapfrogs is 1000000000", 2),
    "log Z": ("config.json", config(log_z__mean="x"), "config.json is damaged (ValueError", 2),
    "integers": ("config.json", config(integers="no"), "integers is 'no', expected true or", 2),
    "weights: empty": ("weights.safetensors", b"", "weights.safetensors is damaged (", 2),
    "weights: a pickle": ("weights.safetensors", b"\x80\x04N.", "is damaged (", 2),
    "weights: large": ("weights.safetensors", bytes(2**21), "bytes; expected at most 1,04", 2),
    "weights: header": (
        "weights.safetensors", raw_weights(b"{}", length=2**60), "is damaged (", 2
    ),
    "weights: offsets": ("weights.safetensors", raw_weights(BAD_HEADER), "is damaged (", 2),
    "weights: names": (
        "weights.safetensors", weights(lambda a: a.update(ODD_NAMES)),
        "array '../../etc/passwd' is in one of them only", 2,
    ),
    "weights: shape": (
        "weights.safetensors",
        weights(lambda a: a.update({"tilt.level": np.zeros(2, np.float32)})),
        "array 'tilt.level' is float32[2]; expected float32[]", 2,
    ),
    "weights: dtype": (
        "weights.safetensors", weights(lambda a: a.update({"tilt.level": np.zeros((), np.int32)})),
        "array 'tilt.level' is int32[]; expected float32[]", 2,
    ),
    "weights: order": (
        "weights.safetensors", weights(lambda a: a["backbone.blocks.1.order"].fill(0)),
        "array 'backbone.blocks.1.order' holds no permutations", 2,
    ),
    "weights: NaN": (
        "weights.safetensors",
        weights(lambda a: a.update({"tilt.level": np.array(np.nan, np.float32)})),
        "array 'tilt.level' is not finite", 3,
    ),
}  # fmt: skip

# name: (command line, the words, with RUN for a run; the data file is good.npy)
FLAGS = {
    "no such file": ("fit absent.npy", "absent.npy does not exist; check the path"),
    "no such set": ("fit cifar", "unknown data set 'cifar'; expected digits, mnist, fashion-mnist"),
    "no command": ("learn good.npy", "learn"),
    "no data": ("fit", "no DATA; expected `digits`, a file, or --config"),
    "option": ("fit good.npy --epochs 3", "--epochs"),
    "learner": ("fit good.npy --learner magic", "learner"),
    "units": ("fit good.npy --units magic", "units"),
    "units for integers": ("fit good.npy --units logit", "units 'logit' are for integers"),
    "seed": ("fit good.npy --seed -1", "the seed is -1; expected an integer, 0 to 2^63 - 1"),
    "seed of text": ("fit good.npy --seed x", "seed"),
    "steps": ("fit good.npy --tilt-steps 0", "steps is 0; expected at least 1"),
    "particles": ("fit good.npy --particles 7", "7 particles"),
    "chains": ("fit good.npy --chains 2", "2 chains; expected at least 4"),
    "key": ("fit good.npy --key x", "has no named arrays; leave out the key 'x'"),
    "image size": ("data inspect good.npy --image-size 8", "no folder of images; leave out the"),
    "channels": ("data inspect good.npy --channels hsv", "channels"),
    "nothing to inspect": ("data inspect", "parameter SOURCE requires an argument"),
    "inspect a key": ("data inspect good.npz --key z", "has no array 'z'; pass --key with one of"),
    "no run": ("sample nowhere", "nowhere is not a run; expected a folder made by `tiltflow fit`"),
    "no run to show": ("info nowhere", "nowhere is not a run"),
    "no draws": ("sample RUN --draws 0", "--draws is 0; expected at least 4"),
    "no kernel": ("sample RUN --kernel gibbs", "gibbs"),
    "target": ("sample RUN --until speed=3", "--until speed=3: expected ess=NUMBER or rhat=NUMBER"),
    "time": ("sample RUN --time-limit soon", "--time-limit is 'soon'; expected a time such as"),
    "rows of another shape": (
        "likelihood RUN --data wide.npy",
        "rows of shape (5,); expected (3",
    ),
    "key without data": ("likelihood RUN --key x", "--key x without --data; expected both"),
}


def refused(arguments, capsys, status=2):
    """The one line on standard error, after the program's name."""
    capsys.readouterr()
    assert run(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("tiltflow: ")
    assert captured.err.strip().isprintable()
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("tiltflow: ").strip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_is_long_enough():
    assert len(FILES) + len(FOLDERS) + len(MODELS) + len(FLAGS) >= 120


@pytest.mark.parametrize("name", FILES)
def test_files(name, here, capsys):
    content, words = FILES[name]
    (here / name).write_bytes(content)
    images = ["data", "inspect", name, "--images"]
    line = refused(images if name.startswith("images") else ["fit", name], capsys)
    assert line.startswith(name + words), line
    assert len(line) < 500
    assert [entry.name for entry in here.iterdir()] == [name]


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(name, here, capsys):
    files, words = FOLDERS[name]
    (here / "folder").mkdir()
    for file, content in files.items():
        (here / "folder" / file).write_bytes(content)
    assert words in refused(["fit", "folder"], capsys)


@pytest.mark.parametrize("name", MODELS)
def test_models(name, here, capsys):
    file, content, words, status = MODELS[name]
    write_run(here / "run")
    (here / "run" / "model" / file).write_bytes(content)
    before = sorted(here.rglob("*"))
    assert words in refused(["sample", "run"], capsys, status)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("name", FLAGS)
def test_flags(name, here, capsys):
    words, expected = FLAGS[name]
    (here / "good.npy").write_bytes(npy(REALS))
    (here / "good.npz").write_bytes(npz(x=REALS, w=REALS))
    (here / "wide.npy").write_bytes(npy(np.hstack([REALS, REALS[:, :2]])))
    if "RUN" in words:
        write_run(here / "RUN")
    assert expected in refused(words.split(), capsys)
