"""Whatever `data inspect` advises can be done, and `fit` then takes the data."""

import json

import numpy as np
import pytest
from small_run import QUICK

from tiltflow.cli.main import run
from tiltflow.errors import Interrupted
from tiltflow.fitting import experiment

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
FAR = np.exp(X)
FAR[5, 1] = 500.0


def with_column(values):
    return np.column_stack([X, values])


def text(rows, names=""):
    return "\n".join([*([names] if names else []), *(",".join(map(str, r)) for r in rows.tolist())])


SPIKED = X.copy()
SPIKED[X[:, 1] > 0.5, 0] = 0.0
NAN = np.where(np.arange(360).reshape(120, 3) == 7, np.nan, X)
ADVICE = {  # what is in the file, what is said of it, what is then done, and how it is fitted
    "fill them in": (NAN, "fill them in or drop the rows", np.nan_to_num(NAN), []),
    "drop the rows": (NAN, "fill them in or drop the rows", NAN[~np.isnan(NAN).any(axis=1)], []),
    "drop a constant": (with_column(np.ones(120)), "drop them, a density needs columns", X, []),
    "rescale": (X * 1e39, "rescale the data", X, []),
    "subtract an offset": (X + 2e5, "subtract an offset, such as", X, []),
    "more rows": (X[:19], "expected at least 20", X, []),
    "treat as continuous": (X, "treat the data as continuous", X, ["--continuous"]),
    "leave a function out": (with_column(X @ [1.0, 2, 3]), "is a linear function of", X, []),
    "drop dependent": (
        with_column(X @ [1.0, 2, 3]), "fit --drop-dependent` leaves it out", None,
        ["--drop-dependent"],
    ),
    "atoms apart": (SPIKED, "`--atoms separate` sets such", None, ["--atoms", "separate"]),
    "noise on atoms": (
        SPIKED, "add noise of the instrument's own size", SPIKED + 0.1 * RNG.normal(size=(120, 3)),
        [],
    ),
    "no copies": (np.r_[X, X[:9]], "drop them, unless they are draws", X, []),
    "logarithms": (FAR, "or take logarithms of the column", np.log(FAR), []),
    "arcsinh": (np.where(FAR == 500, -60, X), "arcsinh(x / its usual size)",
                np.arcsinh(np.where(FAR == 500, -60, X)), []),
    "rows are few": (RNG.normal(size=(30, 25)), "or leave out columns", X[:30], []),
    "no count of rows": (np.c_[np.arange(120.0), X], "counts the rows: leave it out", X, []),
    "names above": (text(X, "NA,1.5,2.5"), "write a line of names above it",
                    text(X, "a,b,c\n0.3,1.5,2.5"), []),
}  # fmt: skip
INSPECTED = {"treat as continuous": ["--integers"]}


def written(content, folder):
    if isinstance(content, str):
        (folder / "x.csv").write_text(content + "\n")
        return "x.csv"
    (folder / "x.csv").write_text(text(content) + "\n")
    return "x.csv"


def said(capsys, source, *how):
    capsys.readouterr()
    assert run(["data", "inspect", source, "--json", *how]) == 0
    told = json.loads(capsys.readouterr().out)
    return told, " ".join([*told["advice"], told["fit"]["refusal"] or ""])


def followed(name, folder, capsys):
    """What has been done as `ADVICE[name]` says; the source, and how it is fitted."""
    before, words, after, how = ADVICE[name]
    source = written(before, folder)
    told, advice = said(capsys, source, *INSPECTED.get(name, []))
    assert words in advice
    if not told["fit"]["accepts"]:
        assert run(["fit", source, "--out", "refused", *INSPECTED.get(name, [])]) == 2
    if after is not None:
        source = written(after, folder)
        told, advice = said(capsys, source, *how)
        assert words not in advice
        assert told["fit"]["accepts"]
    return source, how


@pytest.mark.parametrize("name", ADVICE)
def test_advice_leads_to_data_that_are_learned_from(name, tmp_path, monkeypatch, capsys):
    """All that `fit` asks of data, and the units, for real; then it is stopped."""
    monkeypatch.chdir(tmp_path)
    source, how = followed(name, tmp_path, capsys)

    def learns(rows, *rest, **settings):
        assert np.isfinite(rows.array()).all()
        raise Interrupted("it learns")

    monkeypatch.setattr(experiment, "train", learns)
    assert run(["fit", source, "--out", "run", *how]) == 130
    assert "it learns" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ADVICE)
def test_advice_leads_to_a_fit(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source, how = followed(name, tmp_path, capsys)
    assert run(["fit", source, "--out", "run", *how, *QUICK]) in (0, 3)
    assert (tmp_path / "run" / "model" / "config.json").exists()
    if "--drop-dependent" not in how:
        return
    assert run(["sample", "run", "--out", "draws.csv", "--draws", "20", "--chains", "8"]) in (0, 3)
    draws = np.loadtxt("draws.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(draws[:, 3], draws[:, :3] @ [1.0, 2, 3], atol=1e-4)
    for command in (["score", "run", source, "--out", "s.csv"], ["likelihood", "run"]):
        assert run(command) in (0, 3)
