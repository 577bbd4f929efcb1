"""The house has few rooms on few floors, every import points down, and CONTRIBUTING says so."""

import re
from pathlib import Path

import pytest
from imports import arrows_up, floors_of, rooms_of

ROOT = Path(__file__).parents[2]
PUBLIC = {"__init__", "__main__", "_version", "arviz", "errors", "sklearn"}
ROW = re.compile(r"^\| (\d+) \| ((?:`[\w/.]+`(?:, )?)+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def rooms():
    return rooms_of(ROOT / "src" / "tiltflow")


def as_contributing_says():
    """The floor of each room, as the table of CONTRIBUTING.md has it."""
    rows = ROW.findall((ROOT / "CONTRIBUTING.md").read_text())
    return {
        name.strip("`/").removesuffix(".py"): int(floor)
        for floor, names in rows
        for name in names.split(", ")
    }


def test_there_are_few_rooms_on_few_floors(rooms):
    assert len(rooms) <= 20
    assert max(floors_of(rooms).values()) <= 10


def test_nothing_but_public_modules_lies_at_the_top(rooms):
    modules = {file.stem for file in (ROOT / "src" / "tiltflow").glob("*.py")}
    assert modules == PUBLIC


def test_contributing_names_every_room_and_imports_point_down(rooms):
    floors = as_contributing_says()
    assert set(floors) == set(rooms)
    assert not arrows_up(rooms, floors)


def package(folder, **modules):
    for name, text in modules.items():
        file = folder / "house" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".py").write_text(text)
    return rooms_of(folder / "house")


def test_an_import_that_points_up_is_seen(tmp_path):
    rooms = package(
        tmp_path, low="def later():\n    from house.high import part\n", high__part="x = 1\n"
    )
    assert arrows_up(rooms, {"low": 1, "high": 2}) == ["low (floor 1) imports high (floor 2)"]
    assert not arrows_up(rooms, {"low": 2, "high": 1})


def test_rooms_that_import_one_another_are_seen(tmp_path):
    rooms = package(
        tmp_path,
        a__one="from house import b\n",
        b__two="import house.c.three\n",
        c__three="from house.a.one import x\n",
    )
    with pytest.raises(ValueError, match="a -> b -> c -> a"):
        floors_of(rooms)
