"""A run of a table with labels and atoms: scores are masses, draws and rows have labels."""

import csv
import json
from dataclasses import replace

import jax
import jax.random as jr
import numpy as np
import pytest
from table_run import made_of

from tiltflow.backbones.units.atom_cells import atom_cells
from tiltflow.cli.main import run
from tiltflow.cli.run_data import other_rows, run_data
from tiltflow.data import load
from tiltflow.errors import InputError
from tiltflow.evaluation.row_scores import RowScorer
from tiltflow.learning import Rows
from tiltflow.model.loading import load_model
from tiltflow.runs import RunStore

RNG = np.random.default_rng(0)
ROWS = 1_200
TOWNS = np.array(["Rome", "Oslo", "Bern"])[np.array([0, 0, 0, 1, 1, 2] * 200)]
RAIN = np.where(RNG.uniform(size=ROWS) < 0.4, 0.0, RNG.gamma(2.0, 3.0, size=ROWS))


def written(path, towns, rain):
    lines = [f"{town},{x}" for town, x in zip(towns, rain, strict=True)]
    path.write_text("\n".join(["town,rain", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    source = written(folder / "train.csv", TOWNS, RAIN)
    data = load(source, atoms="separate")
    return made_of(folder / "run", data, source, kind="histogram", atoms="separate")


def total(fitted):
    """Of all masses, over labels and the atom, and of the density between, over a fine grid."""
    rain = np.append(np.arange(-2, 60, 0.04) + 0.02, 0.0)
    volume = np.append(np.full(len(rain) - 1, 0.04), 1.0)
    rows = np.stack([np.repeat(np.arange(3.0), len(rain)), np.tile(rain, 3)], axis=1)
    return np.exp(RowScorer(fitted)(rows).log_q) @ np.tile(volume, 3)


def test_masses_and_densities_sum_to_one(mixed):
    fitted = load_model(mixed)
    assert total(fitted) == pytest.approx(1, abs=0.02)
    # Power: zeros as values among others, or labels without the room that they have.
    assert abs(total(replace(fitted, grid=replace(fitted.grid, atoms={}))) - 1) > 0.1
    zero = np.exp(RowScorer(fitted)(np.array([[0.0, 0.0]])).log_q[0])
    assert zero == pytest.approx(0.5 * np.mean(RAIN == 0), rel=0.1)


def test_rows_to_learn_from_count_the_mass_of_atoms(mixed):
    """Their log-weight is the log-determinant of the units and the volume of the row's cells."""
    fitted = load_model(mixed)
    units, grid = fitted.model.backbone.units, fitted.grid
    values = np.stack([np.arange(64) % 3, RAIN[:64]], axis=1).astype(np.float32)
    cells = grid.to_cells(values)
    rows = Rows(cells, units, integers=False, steps=grid.step, atoms=atom_cells(grid))
    c, log_weight = rows.batch(jr.key(0), 64)
    points = jax.vmap(units.decode)(c)
    x = grid.round(np.asarray(points))
    log_det = jax.vmap(units.encode_and_log_det)(points)[1]
    np.testing.assert_allclose(log_weight - log_det, grid.log_volume(x), atol=1e-3)
    assert np.ptp(grid.log_volume(x)) > 0.5


def test_rows_are_known_by_their_labels(mixed, tmp_path):
    polars = pytest.importorskip("polars")
    fitted = load_model(mixed)
    codes = np.array([[1.0, 2.5], [0.0, 0.0]])
    frame = polars.DataFrame({"rain": [2.5, 0.0], "other": [1, 2], "town": ["Oslo", "Rome"]})
    np.testing.assert_allclose(fitted.log_prob(frame), fitted.log_prob(codes))
    told = polars.DataFrame(fitted.labelled(codes))
    assert told["town"].to_list() == ["Oslo", "Rome"]
    with pytest.raises(InputError, match=r"row 1 holds 'Paris' at column 'town'; expected a label"):
        fitted.log_prob(frame.with_columns(town=polars.Series(["Oslo", "Paris"])))
    with pytest.raises(InputError, match="row 0 holds 3 at column 'town'"):
        fitted.log_prob([[3.0, 1.0]])


def test_a_label_that_the_model_has_not_seen_has_no_score(mixed, tmp_path, capsys):
    path = written(tmp_path / "x.csv", ["Bern", "Paris", " Oslo "], [0.0, 1.0, 2.0])
    out = tmp_path / "s.csv"
    assert run(["score", str(mixed), str(path), "--out", str(out), "--json"]) == 0
    (first,) = json.loads(capsys.readouterr().out)["outliers"]["first"].values()
    assert first == "row 1, column 'town': 'Paris'"
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["outlier"] for row in rows] == ["0", "1", "0"]
    assert rows[1]["log_p"] == "-inf"
    with pytest.raises(InputError, match=r"column 'town', row 1 holds 'Paris', which the model"):
        other_rows(RunStore.open(mixed), str(path), None)
    path = written(tmp_path / "y.csv", ["Bern", "Bern", "Oslo"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(
        other_rows(RunStore.open(mixed), str(path), None).values[:, 0], [2, 2, 1]
    )


def test_draws_come_back_as_labels_and_atoms(mixed, tmp_path):
    few = ("--chains", "8", "--warmup", "20", "--draws", "20", "--json")
    out = tmp_path / "x.csv"
    assert run(["sample", str(mixed), "--out", str(out), *few]) in (0, 3)
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["town"] for row in rows} == {"Rome", "Oslo", "Bern"}
    assert np.mean([float(row["rain"]) == 0 for row in rows]) == pytest.approx(0.4, abs=0.2)
    again = load(out, atoms="separate")
    assert again.kinds == run_data(RunStore.open(mixed)).kinds


@pytest.mark.slow
def test_labels_and_atoms_are_completed(mixed, tmp_path, capsys):
    """Rain in towns that are known, as often none as the model has it, and towns by their name."""
    out = tmp_path / "filled.csv"
    lines = ["town,rain", "Bern,", "Rome,0.0", "?,0.0"]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    told = ("--out", str(out), "--draws", "200", "--json")
    assert run(["complete", str(mixed), str(tmp_path / "x.csv"), *told]) in (0, 3)
    with open(out, newline="") as stream:
        rows = [(row["town"], float(row["rain"])) for row in csv.DictReader(stream)]
    first, second, third = rows[:200], rows[200:400], rows[400:]
    assert {town for town, _ in first} == {"Bern"}
    assert np.mean([rain == 0 for _, rain in first]) == pytest.approx(0.4, abs=0.12)
    assert set(second) == {("Rome", 0.0)}
    assert {town for town, _ in third} == {"Rome", "Oslo", "Bern"}
    capsys.readouterr()
    (tmp_path / "x.csv").write_text("town,rain\nParis,\n")
    assert run(["complete", str(mixed), str(tmp_path / "x.csv"), *told, "--overwrite"]) == 2
    assert "row 0, column 'town': 'Paris'; expected a label" in capsys.readouterr().err
