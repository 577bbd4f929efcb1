"""Kinds of columns: text becomes categories, a word goes before the data, atoms are set apart."""

import json

import numpy as np
import pytest

import tiltflow
from tiltflow.cli.main import run
from tiltflow.data.atoms import Atoms, atoms_of, set_apart, shared_values
from tiltflow.data.categories import Levels, Texts
from tiltflow.data.gaps import read_gaps
from tiltflow.data.grids import Grid
from tiltflow.fitting.config import read_config
from tiltflow.fitting.settings import ModelSettings, Settings

CHANCE = np.random.default_rng(0)
ROWS = 600
TOWNS = np.array(["Bern", "Oslo", "Rome"])[np.array([0, 1, 1, 2, 2, 2] * 100)]
X = CHANCE.normal(size=ROWS)
COUNTS = CHANCE.integers(0, 5, ROWS)
ODD = np.array([1.0, 0.0, 0.317, 2.718, 9.869])[CHANCE.integers(0, 5, ROWS)]
ZEROS = np.where(CHANCE.uniform(size=ROWS) < 0.4, 0.0, X)


def table(path, **columns):
    """A file of these columns."""
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixed") / "x.csv"
    return table(path, town=[f" {town}" for town in TOWNS], x=X, count=COUNTS, odd=ODD)


def test_columns_of_every_kind_are_told_by_the_data(mixed):
    data = tiltflow.load_data(mixed)
    assert data.kinds == ["category of 3", "continuous", "grid of 1", "5 uneven values"]
    assert data.grid.levels[0].labels == ("Rome", "Oslo", "Bern")  # the commonest first
    np.testing.assert_array_equal(data.values[:6, 0], [2, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(data.values[:, 3], ODD.astype(np.float32))
    assert tiltflow.load_data(mixed, integers=False).kinds[2:] == ["continuous"] * 2


def test_few_numbers_are_no_labels(mixed):
    """But where somebody says so; a model knows them apart when it is loaded again."""
    data = tiltflow.load_data(np.stack([X, ODD], axis=1))
    assert data.kinds == ["continuous", "5 uneven values"]
    assert data.grid.labels == []
    again = Grid.from_dict(json.loads(json.dumps(data.grid.to_dict())), (2,))
    assert again.levels == data.grid.levels
    told = tiltflow.load_data(mixed, columns={"odd": "category"})
    assert told.grid.levels[3].labels == again.levels[1].labels
    assert told.kinds[3] == "category of 5"
    assert told.grid.labels == [0, 3]
    with pytest.raises(ValueError, match="no numbers in their order"):
        Levels.from_list([2.0, 1.0], ordered=True)


def test_a_word_goes_before_the_data(mixed):
    told = tiltflow.load_data(mixed, columns={"count": "continuous", "odd": "grid:0.001"}).kinds
    assert told == ["category of 3", "continuous", "continuous", "grid of 0.001"]
    assert tiltflow.load_data(mixed, columns={"count": "category"}).kinds[2] == "category of 5"
    whole = COUNTS[:, None].repeat(2, axis=1)
    assert tiltflow.load_data(whole, columns={"1": "grid"}).kinds == ["grid of 1"] * 2
    assert tiltflow.load_data(whole).integers


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"twon": "category"}, "no column 'twon', that is given a kind; did you mean 'town'"),
        ({"x": "lattice"}, "is to be 'lattice'; expected continuous, grid, grid:STEP"),
        ({"x": "grid:-1"}, "is to be 'grid:-1'; expected"),
        ({"town": "grid"}, "'town' holds text and is to be grid"),
        ({"x": "grid"}, "none is found in it"),
        ({"count": "grid:2"}, "is no multiple of 2 away from 0"),
        ({"x": "category"}, "'x' holds numbers with 600 different values"),
    ],
)
def test_a_word_that_cannot_be_is_refused_in_a_line(mixed, columns, words):
    with pytest.raises(tiltflow.InputError, match=words) as raised:
        tiltflow.load_data(mixed, columns=columns)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("town", "words"),
    [
        (["Rome"] * (ROWS - 1) + [""], "column 'town', row 599 is blank; expected a label"),
        (["1.5"] * (ROWS - 1) + ["n/a"], r"row 599 .*'n/a'; expected a number.*--column"),
        (["1;5"] * ROWS, "expected commas between numbers"),  # another separator, or notation
        (["5%"] * ROWS, "holds '5%'; expected a number"),
        ([f"id{i}" for i in range(ROWS)], "holds text with 600 different values"),
    ],
)
def test_text_that_is_no_category_is_refused(tmp_path, town, words):
    with pytest.raises(tiltflow.InputError, match=words):
        tiltflow.load_data(table(tmp_path / "x.csv", town=town, x=X))


def test_a_category_may_look_like_numbers_for_a_while(tmp_path):
    path = table(tmp_path / "x.csv", zone=["01"] * 400 + ["2A"] * 200, x=X)
    with pytest.raises(tiltflow.InputError, match="holds '2A'"):
        tiltflow.load_data(path)
    assert tiltflow.load_data(path, columns={"zone": "category"}).grid.levels[0].labels == (
        "01",
        "2A",
    )


def test_labels_are_cells_and_come_back():
    x = np.array([[0.317, 1.0], [9.869, 0.0], [0.317, 2.0]], np.float32)
    levels = {0: Levels((9.869, 0.317)), 1: Levels(("u", "v"))}
    assert Levels.from_list([0.5, 2]) == Levels((0.5, 2.0))
    grid = Grid(np.ones(2, np.float32), np.zeros(2, np.float32), levels)
    grid = Grid.from_dict(json.loads(json.dumps(grid.to_dict())), (2,))
    cells = grid.to_cells(x)
    np.testing.assert_array_equal(cells[:, 0], [1, 0, 1])
    np.testing.assert_array_equal(grid.is_off(x), [[False, False], [False, False], [False, True]])
    np.testing.assert_array_equal(grid.round(cells[:2] + np.float32(0.7)), x[:2])
    np.testing.assert_array_equal(grid.round(cells[:1] + np.float32(9)), [[x[0, 0], 1.0]])
    assert levels[1].labelled(x[:2, 1]).tolist() == ["v", "u"]
    for wrong in ([], ["u", 1], ["u", "u"], [float("nan")], "uv"):
        with pytest.raises(ValueError, match="the labels of a category are"):
            Levels.from_list(wrong)


def test_what_a_config_says_of_columns(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[data]\natoms = "separate"\n[data.columns]\ntown = "category"\n')
    assert read_config(path).how == {"atoms": "separate", "columns": {"town": "category"}}
    path.write_text('[data]\ncolumns = "category"\n')
    with pytest.raises(tiltflow.InputError, match=r"expected a table, \[data.columns\]"):
        read_config(path)


# Atoms --------------------------------------------------------------------------------------------


def test_zeros_and_caps_are_atoms_and_what_repeats_is_none():
    assert [atom.value for atom in atoms_of(ZEROS)] == [0.0]
    assert atoms_of(np.minimum(X, 1.0))[0].share == pytest.approx(np.mean(X >= 1))
    assert atoms_of(X) == []
    assert atoms_of(np.repeat(X, 8)) == []  # every row eight times


def test_room_for_atoms_changes_nothing_else():
    x = np.sort(np.where(ZEROS > 1, np.where(X > 1.5, 1.5, X), ZEROS)).astype(np.float32)
    atoms = set_apart(x, atoms_of(x))
    assert atoms == Atoms.from_list(list(atoms.values), atoms.width)
    cells = atoms.to_cells(x)
    are = np.isin(x, np.float32(atoms.values))
    np.testing.assert_array_equal(np.isin(cells, atoms.edges), are)
    rest = cells[~are]
    inside = rest[:, None] - atoms.edges
    assert not np.any((inside >= 0) & (inside < atoms.width))  # the cells are theirs alone
    assert np.all(np.diff(rest) >= np.diff(x[~are]) - 1e-6)
    np.testing.assert_allclose(atoms.from_cells(cells), x, atol=1e-6)
    np.testing.assert_array_equal(
        atoms.from_cells(cells[are] + np.float32(0.9 * atoms.width)), x[are]
    )


def test_atoms_of_pixels_are_named_by_their_place():
    images = CHANCE.normal(size=(200, 3, 3)).astype(np.float32)
    assert shared_values(images, None) == []
    images[::2, 1, 2] = 0.5
    (one,) = shared_values(images, None)
    assert (one.position, one.atoms) == ((1, 2), [(0.5, 0.5)])
    with pytest.raises(tiltflow.InputError, match="expected a table"):
        tiltflow.load_data(images, atoms="separate")


def test_atoms_are_set_apart_where_somebody_says_so():
    x = np.stack([X, ZEROS], axis=1)
    assert tiltflow.load_data(x).grid is None
    data = tiltflow.load_data(x, atoms="separate")
    assert data.kinds == ["continuous", "continuous, atoms at 0"]
    again = Grid.from_dict(json.loads(json.dumps(data.grid.to_dict())), (2,))
    assert again.atoms == data.grid.atoms
    with pytest.raises(tiltflow.InputError, match="expected keep or separate"):
        tiltflow.load_data(x, atoms="drop")


def test_inspect_shows_kinds_and_what_can_be_done(mixed, tmp_path, capsys):
    path = table(tmp_path / "x.csv", town=TOWNS, x=ZEROS, count=COUNTS)
    assert run(["data", "inspect", str(path), "--column", "count=category", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    kinds = [entry["kind"] for entry in told["columns"]]
    assert kinds == ["category of 3", "continuous", "category of 5"]
    assert told["columns"][0]["levels"] == ["Rome", "Oslo", "Bern"]
    assert told["columns"][1]["atoms"][0]["value"] == 0
    assert told["atoms"][0]["number"] == [1]
    assert any("Column 'x' is 0 in" in words for words in told["advice"])
    assert told["fit"]["accepts"]
    assert run(["data", "inspect", str(path), "--atoms", "separate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["columns"][1]["kind"] == "continuous, atoms at 0"
    assert told["atoms"] == []
    assert run(["data", "inspect", str(path), "--column", "count"]) == 2
    assert "no NAME=KIND" in capsys.readouterr().err


def test_labels_of_text_have_gaps_too(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("x,town\n1.5,Rome\n,?\n2.5,Paris\n3.5, Oslo\n")
    texts = Texts({"town": ("Oslo", "Rome")}).with_gaps()
    (batch,) = read_gaps(str(path), 2, columns=("town", "x"), texts=texts).rows
    np.testing.assert_array_equal(batch.values[:, 0], [1, np.nan, -2, 0])
    np.testing.assert_array_equal(batch.values[:, 1], [1.5, np.nan, 2.5, 3.5])
    assert texts.shown("town", -2.0) == "'Paris'"


def test_noise_is_added_to_no_category(mixed):
    settings = Settings(model=ModelSettings(noise=0.1))
    with pytest.raises(tiltflow.InputError, match=r"noise is 0\.1, and x\.csv has categories"):
        tiltflow.fit(mixed, settings)
