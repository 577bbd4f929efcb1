"""Runs side by side: comparable ones are compared, others are told apart."""

import json

import pytest
import tomli_w

from tiltflow.cli.main import run
from tiltflow.errors import InputError
from tiltflow.report.comparison import UNKNOWN, best, compare

CONFIG = {"command": "tiltflow fit digits", "seed": 0, "data": {"name": "digits"}}


def make(
    folder,
    nll=(89.3, 89.0, 89.6),
    *,
    status="ok",
    data="aa",
    test=297,
    integers=True,
    kinds=None,
    **settings,
):
    """The folder of a run, judged unless `status` is None."""
    folder.mkdir(parents=True)
    config = CONFIG | {"tilt": {"rate": 1e-3, "steps": 70} | settings}
    if data is not None:
        config["data"] = {"name": "digits", "fingerprint": data}
    (folder / "config.toml").write_text(tomli_w.dumps(config))
    event = {"time": 41.2, "phase": "tilt", "event": "stage", "stage": 12, "step": 60}
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    if status is not None:
        mean, low, high = nll
        metrics = {
            "data": {
                "name": "digits",
                "train": 1300,
                "val": 200,
                "test": test,
                "integers": integers,
                "shape": [2],
                **({} if kinds is None else {"kinds": kinds}),
            },
            "backbone": {"nll_test": 93.6},
            "tilted": {"nll_test": mean, "nll_low": low, "nll_high": high},
            "gain_nats": {"mean": 93.6 - mean, "low": 93.6 - high, "high": 93.6 - low},
            "mixing": {"rhat_max": 1.0057, "ess_bulk_min": 1210.4},
            "seconds": {"total": 318.0},
            "verdict": {"status": status, "text": "It mixes.", "checks": []},
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def notes(*folders):
    return " ".join(compare(folders).notes)


def test_only_settings_that_differ_are_shown(tmp_path):
    found = compare(
        [make(tmp_path / "a"), make(tmp_path / "b", rate=2e-3), make(tmp_path / "c", depth=3)]
    )
    assert found.settings == {"tilt.rate": (1e-3, 2e-3, 1e-3), "tilt.depth": (None, None, 3)}
    assert found.to_dict()["same_data"]


def test_the_best_is_the_lowest_that_can_be_trusted(tmp_path):
    good = make(tmp_path / "good", (88.0, 87.9, 88.1))
    close = make(tmp_path / "close", (88.15, 88.05, 88.25))
    far = make(tmp_path / "far", (90.0, 89.9, 90.1), status="caution")
    failed = make(tmp_path / "failed", (70.0, 69.0, 71.0), status="failed")
    half = make(tmp_path / "half", status=None)
    found = compare([far, failed, half, close, good])
    first = best(found.entries)
    assert first is not None
    assert first.path == good
    words = " ".join(found.notes)
    assert "Lowest negative log-likelihood: good." in words
    assert "intervals of close overlap" in words
    assert "failed: not converged" in words
    assert "half: unfinished (tilt, stage 12, after 41 s)" in words


@pytest.mark.parametrize(
    "change", [{"data": "bb"}, {"test": 30}, {"integers": False}, {"data": None}]
)
def test_other_data_or_splits_are_told_apart(tmp_path, change):
    """Power twin: the same two runs on the same data are held against each other."""
    a, same = make(tmp_path / "a"), make(tmp_path / "same", (80.0, 79.0, 81.0))
    other = make(tmp_path / "other", (80.0, 79.0, 81.0), **change)
    found = compare([a, other])
    assert not found.to_dict()["same_data"]
    assert "cannot be compared" in " ".join(found.notes) or UNKNOWN in found.groups
    assert "Lowest" not in " ".join(found.notes)
    assert "Lowest negative log-likelihood: same." in notes(a, same)


def test_scores_of_unlike_measures_are_not_ranked(tmp_path):
    """Columns of other kinds; power twin: the same kinds, as a former version says them, too."""
    a = make(tmp_path / "a", kinds=["grid of 1", "grid of 1"])
    b = make(tmp_path / "b", (8.0, 7.0, 9.0), integers=False, kinds=["grid of 1", "continuous"])
    words = notes(a, b)
    assert "a and b are on the same rows, and score them in unlike measures: column 1 is " in words
    assert "grid of 1 for the first and continuous for the second" in words
    assert "Lowest" not in words
    assert "Lowest negative log-likelihood: c." in notes(a, make(tmp_path / "c", (8.0, 7.0, 9.0)))


def test_an_unfinished_run_belongs_to_its_data(tmp_path):
    found = compare([make(tmp_path / "half", status=None), make(tmp_path / "a")])
    assert [entry.group for entry in found.entries] == ["A", "A"]
    assert found.entries[0].to_dict()["tilted"]["nll_test"] is None


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    found = compare([make(tmp_path / "one" / "digits"), make(tmp_path / "two" / "digits")])
    assert [entry.label for entry in found.entries] == ["one/digits", "two/digits"]


def test_names_with_brackets_are_printed_as_they_are(tmp_path, capsys, monkeypatch):
    """As markup both would be `sweep`."""
    monkeypatch.setenv("COLUMNS", "100")
    runs = [make(tmp_path / f"sweep[lr={rate}]", rate=rate) for rate in (0.1, 0.01)]
    assert run(["compare", *map(str, runs)]) == 0
    out = capsys.readouterr().out
    assert "sweep[lr=0.1]" in out
    assert "sweep[lr=0.01]" in out


def test_mistakes(tmp_path):
    a = make(tmp_path / "a")
    for folders, words in (
        ([a], "at least two"),
        ([a, tmp_path / "b"], "is not a run"),
        ([a, tmp_path / "." / "a"], "named twice"),
        ([a, tmp_path], "is not a run"),
    ):
        with pytest.raises(InputError, match=words):
            compare(folders)


def test_the_command_prints_tables_json_and_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    a, b = make(tmp_path / "a"), make(tmp_path / "b", (88.0, 87.9, 88.1), rate=2e-3)
    half = make(tmp_path / "half", status=None)
    page = tmp_path / "compare.html"
    command = ["compare", str(a), str(b), str(half), "--out", str(page)]
    assert run(command) == 0
    out = capsys.readouterr().out
    for words in ("89.30", "89.00 to 89.60", "+5.60", "tilt.rate", "0.002", "Unfinished"):
        assert words in out
    assert "tilt.steps" not in out
    source = page.read_text()
    for words in ("87.90 to 88.10", "tilt.rate", "Unfinished", "The same data", "<img"):
        assert words in source
    assert "http" not in source.replace("http-equiv", "")
    assert run(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command, "--overwrite", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(page)
    assert [r["status"] for r in told["runs"]] == ["ok", "ok", "unfinished"]
    assert run(["compare", str(a)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bounds_are_called_bounds(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    assert "bounds" not in notes(a, b)
    with (b / "config.toml").open("a") as stream:
        stream.write('\n[model]\nbackbone = "vae"\n')
    assert "b: of a variational autoencoder, whose likelihoods are bounds" in notes(a, b)
