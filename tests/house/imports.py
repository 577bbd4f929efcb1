"""The imports of a package, read as text, from room to room.

A room is what lies at the top of the package: a folder, or a module of its own. All imports count,
those inside of functions and those for type checkers, too.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Rooms = Mapping[str, set[str]]
"""What each room imports."""


def rooms_of(package: Path) -> dict[str, set[str]]:
    """The rooms of the package in a folder, and the other rooms that each imports."""
    rooms: dict[str, set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        first = file.relative_to(package).parts[0]
        room = first.removesuffix(".py")
        rooms.setdefault(room, set())
        for module in _imported(ast.parse(file.read_text()), package.name):
            if module != room:
                rooms[room].add(module)
    return rooms


def floors_of(rooms: Rooms) -> dict[str, int]:
    """The lowest floor of each room, from 1, so that all it imports is below.

    Raises:
        ValueError: rooms import one another in a circle; it names them.
    """
    floors: dict[str, int] = {}

    def floor(room: str, above: tuple[str, ...]) -> int:
        if room in above:
            raise ValueError(f"a circle: {' -> '.join((*above[above.index(room) :], room))}")
        if room not in floors:
            below = (floor(other, (*above, room)) for other in sorted(rooms[room]))
            floors[room] = 1 + max(below, default=0)
        return floors[room]

    for room in rooms:
        floor(room, ())
    return floors


def arrows_up(rooms: Rooms, floors: Mapping[str, int]) -> list[str]:
    """Imports that do not point down, if rooms are on these floors."""
    return [
        f"{room} (floor {floors[room]}) imports {other} (floor {floors[other]})"
        for room, others in rooms.items()
        for other in sorted(others)
        if floors[other] >= floors[room]
    ]


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The rooms of the package that a module imports from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names = [f"{package}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1:
                yield parts[1]
