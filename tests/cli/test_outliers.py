"""`tiltflow outliers`: the keys that are promised, the table, the picture, mistakes in one line."""

import json

import numpy as np
import pytest

from tiltflow.cli import outliers
from tiltflow.cli.main import run
from tiltflow.data import load, split
from tiltflow.evaluation.outliers.judge import labels_of

FIRST = "blurred densities"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """120 test digits, the first 40 of them upside down, and which these are."""
    folder, digits = tmp_path_factory.mktemp("rows"), load("digits")
    x = digits.values[split(digits).test[:120]].copy()
    x[:40] = x[:40, ::-1]
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", np.arange(120) < 40)
    (folder / "y.csv").write_text("outlier\n" + "1\n" * 40 + "0\n" * 80)
    np.savez(folder / "both.npz", X=x, y=(np.arange(120) < 40).astype(int))
    return folder


@pytest.fixture(scope="module")
def told(small_run, rows):
    """The JSON of one call, and its picture."""
    picture = rows / "scores.png"
    out = rows / "out.json"
    with pytest.MonkeyPatch.context() as patch, out.open("w") as stream:
        patch.setattr("sys.stdout", stream)
        arguments = ["--labels", str(rows / "y.npy"), "--picture", str(picture), "--json"]
        assert run(["outliers", str(small_run[0]), str(rows / "x.npy"), *arguments]) == 0
    return json.loads(out.read_text()), picture


def test_one_json_object_with_every_score_judged(told):
    found, _ = told
    assert (found["rows"], found["outliers"], found["rate"]) == (120, 40, 0.05)
    names = list(found["scores"])
    assert names[:3] == [FIRST, "tilted model", "backbone"]
    assert {"neighbours", "mahalanobis", "mixture", "isolation forest"} <= set(names)
    first = found["scores"][FIRST]
    assert first["auroc"]["low"] < first["auroc"]["value"] < first["auroc"]["high"]
    assert first["auroc"]["low"] > 0.6
    assert first["behind"] is None
    assert set(found["scores"]["neighbours"]["behind"]) == {"auroc", "average_precision", "fpr95"}
    assert len(found["score"]) == len(found["p_value"]) == 120
    assert first["flagged"] == np.mean(np.array(found["p_value"]) <= 0.05)


def test_the_strangest_rows_come_with_their_reasons(told):
    found, _ = told
    rows = found["strangest"]
    assert len(rows) == 10
    assert [one["score"] for one in rows] == sorted((one["score"] for one in rows), reverse=True)
    assert rows[0]["row"] == int(np.argmax(found["score"]))
    assert all(len(one["columns"]) == 3 == len(one["added"]) for one in rows)
    assert sum(one["row"] < 40 for one in rows) >= 8


def test_the_picture_is_a_png(told):
    assert told[1].read_bytes().startswith(b"\x89PNG")


def test_a_table_for_people_without_labels(small_run, rows, capsys):
    assert run(["outliers", str(small_run[0]), str(rows / "x.npy"), "--show", "2"]) == 0
    out = capsys.readouterr().out
    assert "120 rows of x.npy" in out
    assert "AUROC" not in out
    for words in ("flagged at 0.05", "agreement", "isolation forest", "pixel (", "strangest rows"):
        assert words in out


@pytest.mark.parametrize("name", ["y.npy", "y.csv", "both.npz"])
def test_labels_of_an_array_a_table_and_an_archive(name, rows):
    found = labels_of(outliers._labels(rows / name))
    np.testing.assert_array_equal(found, np.arange(120) < 40)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rate", "0"), "the rate is 0"),
        (("--show", "-1"), "-1 rows to show"),
        (("--picture", "scores.jpg"), "ends in .png"),
        (("--labels", "nowhere.npy"), "does not exist"),
        (("--labels", "short.npy"), "3 labels for 120 rows"),
        (("--labels", "same.npy"), "both kinds"),
        (("--labels", "broken.npy"), "no whole .npy"),
        (("--seed", "-1"), "seed is -1"),
    ],
)
def test_mistakes_are_one_line(small_run, rows, options, words, capsys, monkeypatch):
    monkeypatch.chdir(rows)
    np.save("short.npy", [0, 1, 0])
    np.save("same.npy", np.zeros(120))
    (rows / "broken.npy").write_bytes(b"\x93NUMPY")
    assert run(["outliers", str(small_run[0]), "x.npy", *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
