"""What an array looks like before anything is learned from it, and what to do about it.

Range, kinds and places are of all rows, in one pass. Repeated values and dependences are judged
on at most `LOOKED_AT` rows, evenly spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltflow.data.atoms import FEWEST, Shared, atoms_of, of_shared_values, shared_values
from tiltflow.data.categories import Levels
from tiltflow.data.checks import FEWEST_ROWS, column, judged, place, refuse_unfit
from tiltflow.data.dataset import Dataset
from tiltflow.data.dependent import (
    ADVICE,
    Dependence,
    dependences,
    of_dependences,
    of_few_rows,
)
from tiltflow.data.far_rows import far_rows, of_far_rows
from tiltflow.data.grids import Grid, grid_of
from tiltflow.data.kinds import KEEP, are_apart, asked_kinds, kinds_of, resolved
from tiltflow.data.limits import blocks
from tiltflow.data.repeats import repeated_rows
from tiltflow.data.scan import Scan, scan
from tiltflow.data.source_contents import Found
from tiltflow.errors import InputError

LOOKED_AT = 20_000
MOST_COLUMNS = 64
"""Tables of more columns get no line for each, and are not searched for dependences."""
COMMON = 0.01
"""Share of rows with one value from which on a continuous column is said to repeat itself."""
NAMED = 5


@dataclass(frozen=True)
class Inspection:
    """What was seen.

    Attributes:
        facts: plain values for JSON, by name.
        advice: what to know or to do, one sentence or two each, the weightiest first.
        refusal: why `tiltflow fit` would refuse the data, or "".
        kept: the rows that were looked at closely, as a data set; None: they would be refused.
    """

    facts: dict[str, Any]
    advice: tuple[str, ...]
    refusal: str
    kept: Dataset | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        fit = {"accepts": not self.refusal, "refusal": self.refusal or None}
        return {**self.facts, "advice": list(self.advice), "fit": fit}


def inspect(
    found: Found,
    *,
    integers: bool | None = None,
    columns: Mapping[str, str] | None = None,
    atoms: str = KEEP,
) -> Inspection:
    """Look at what a reader has found; nothing is refused. Arguments are as those of `load`.

    Raises:
        InputError: `columns` with what is no kind, or another word on `atoms`.
    """
    told = {"asked": asked_kinds(columns), "apart": are_apart(atoms)}
    with np.errstate(over="ignore", invalid="ignore"):  # as values that are refused may do
        return _inspected(found, scan(found.array), integers, told)


def _inspected(found: Found, seen: Scan, asked: bool | None, told: Mapping[str, Any]) -> Inspection:
    looked_at = _spread(found.array)
    integers, grid, refusal = _judged(found, seen, asked, told, looked_at)
    rows = len(found.array)
    again = repeated_rows(found.array)
    facts: dict[str, Any] = {
        "name": found.name,
        "rows": rows,
        "shape": list(found.array.shape[1:]),
        "dtype": str(found.array.dtype),
        "bytes": int(found.array.nbytes),
        "mapped": isinstance(found.array, np.memmap),
        "kind": _kind(found.array),
        "values": "integers" if integers else "continuous",
        "low": _number(seen.low.min()),
        "high": _number(seen.high.max()),
        "levels": seen.levels or None,
        "on_grid": 0 if grid is None else int(grid.cells.sum()),
        "not_finite": {
            "rows": seen.bad_rows,
            "columns": int(np.count_nonzero(seen.bad_columns)),
            "first": None if seen.bad is None else place(seen.bad, found.columns),
        },
        "constant_columns": int(np.count_nonzero(seen.constant)),
        "repeated_rows": {"rows": again.rows, "most": again.most},
        "labels": _labels(found.labels),
        "test_rows": found.test_rows,
        "note": found.note or None,
        "looked_at": len(looked_at),
    }
    advice = [found.note[0].upper() + found.note[1:] + "."] if found.note else []
    if found.array.ndim == 2 and found.array.shape[1] <= MOST_COLUMNS:
        facts["columns"] = _columns(found, seen, looked_at, integers, grid)
        known = () if grid is None else (grid.cells, grid.categories)
        planes = [] if integers or refusal else dependences(found.array, *known)
        facts["dependent"] = [one._asdict() for one in planes]
        if planes:
            refusal = f"{found.where}: {of_dependences(planes, found.columns)}{ADVICE}"
    shared = [] if integers or seen.bad is not None else _shared(looked_at, grid)
    facts["atoms"] = [
        {"number": list(one.position), "atoms": [atom._asdict() for atom in one.atoms]}
        for one in shared
    ]
    names = [column(one.position, found.columns) for one in shared]
    advice += _on_values(found, seen, facts, integers=integers)
    advice += _on_atoms(shared, names, table=found.array.ndim == 2)
    far = far_rows(found.array, None if grid is None else grid.categories)
    facts["far_rows"] = [one._asdict() for one in far]
    if far:
        words = of_far_rows(far, found.columns)
        advice.append(f"{words[0].upper()}{words[1:]}.")
    advice += _on_rows(facts)
    kept = None
    if not refusal:
        kept = Dataset(found.name, looked_at.astype(np.float32), integers, grid=grid)
    return Inspection(facts, tuple(advice), refusal, kept)


def _judged(
    found: Found,
    seen: Scan,
    asked: bool | None,
    told: Mapping[str, Any],
    looked_at: np.ndarray,
) -> tuple[bool, Grid | None, str]:
    """Whether the values are integers, their grid, and why they would be refused."""
    known = len(found.array) - found.test_rows
    if known < FEWEST_ROWS:
        beside = " beside the set's own test rows" if found.test_rows else ""
        refusal = f"{known} rows{beside} are too few; expected at least {FEWEST_ROWS}"
        return (seen.fractional is None if asked is None else asked), None, refusal
    where, columns, grid = found.where, found.columns, None
    try:
        rows, dtype, values = len(found.array), found.array.dtype, looked_at.astype(np.float32)
        integers = judged(seen, rows, dtype, where, columns=columns, integers=asked, constant=True)
        if not integers and asked is None:
            grid = grid_of(values)
        integers, grid = resolved(
            values,
            where,
            integers=integers,
            grid=grid,
            columns=columns,
            texts=found.texts,
            alone=asked is None,
            **told,
        )
    except InputError as error:
        return False, None, str(error)
    try:
        if not integers:
            refuse_unfit(seen, where, columns, grid)
    except InputError as error:
        return integers, grid, str(error)
    return integers, grid, ""


def _spread(array: np.ndarray) -> np.ndarray:
    step = max(1, -(-len(array) // LOOKED_AT))
    return np.asarray(array[::step])


def _kind(array: np.ndarray) -> str:
    if array.ndim == 4:
        return f"images with {array.shape[3]} channels"
    return {2: "a table", 3: "grey images or other grids"}[array.ndim]


def _labels(labels: np.ndarray | None) -> dict[str, Any] | None:
    if labels is None:
        return None
    counts = np.unique(labels, return_counts=True)[1]
    return {"classes": len(counts), "smallest": int(counts.min()), "largest": int(counts.max())}


def _columns(
    found: Found, seen: Scan, looked_at: np.ndarray, integers: bool, grid: Grid | None
) -> list[dict[str, Any]]:
    """One entry a column of a table; mean and deviation of all rows, distinct values of some."""
    total, square = np.zeros(found.array.shape[1]), np.zeros(found.array.shape[1])
    middle = np.where(np.isfinite(seen.low), seen.low, 0).astype(np.float64)
    for _, block in blocks(found.array):
        finite = np.isfinite(block.astype(np.float32))
        shifted = np.where(finite, block.astype(np.float64) - middle, 0)
        total += shifted.sum(axis=0)
        square += (shifted**2).sum(axis=0)
    number = np.maximum(len(found.array) - seen.bad_columns, 1)
    deviation = np.sqrt(np.maximum(square / number - (total / number) ** 2, 0))
    entries = []
    kinds = kinds_of(looked_at.shape[1:], integers, grid)
    steps = np.full(looked_at.shape[1], float(integers)) if grid is None else grid.step
    levels = {} if grid is None else grid.levels
    for i, values in enumerate(looked_at.T):
        counts = np.unique(values[np.isfinite(values)], return_counts=True)[1]
        entries.append(
            {
                "name": found.columns[i] if found.columns else str(i),
                "low": _number(seen.low[i]),
                "high": _number(seen.high[i]),
                "mean": _number(middle[i] + total[i] / number[i]),
                "deviation": _number(deviation[i]),
                "distinct": len(counts),
                "most_common": float(counts.max() / len(values)) if len(counts) else 0.0,
                "not_finite": int(seen.bad_columns[i]),
                "step": float(steps[i]),
                "kind": kinds[i],
                "atoms": [] if steps[i] else [one._asdict() for one in atoms_of(values)],
                **({"levels": list(levels[i].labels)} if i in levels else {}),
            }
        )
    return entries


def _on_values(found: Found, seen: Scan, facts: dict[str, Any], *, integers: bool) -> list[str]:
    """Advice on what stands in the columns."""
    words, entries = [], facts.get("columns", [])
    if seen.bad is not None:
        words.append(
            f"NaN or infinite values in {seen.bad_rows:,} of {len(found.array):,} rows, first at "
            f"{place(seen.bad, found.columns)}: fill them in or drop the rows."
        )
    if facts["constant_columns"]:
        first = tuple(int(i) for i in np.argwhere(seen.constant)[0])
        words.append(
            f"{facts['constant_columns']} of {seen.low.size} columns are constant, first "
            f"{column(first, found.columns)}: "
            + (
                "as integers they keep the noise of their bin, which costs nothing but time."
                if integers
                else "as labels they cost nothing but time."
                if entries and all(entry["step"] for entry in entries if entry["distinct"] < 2)
                else "drop them, a density needs columns that vary; or keep them as labels "
                "(--column NAME=category)."
            )
        )
    if integers:
        words.append(
            f"Integers with {seen.levels:,} levels: they are dequantised (uniform noise in bins of "
            f"width 1), so the density is finite and bounds their probability from below."
        )
    else:
        words += _on_grids(facts)
        words += _on_categories(facts)
        words += _on_repeats(facts)
    for one in facts.get("dependent", [])[:NAMED]:
        told = of_dependences([Dependence(**one)], found.columns)
        words.append(
            f"{told[0].upper()}{told[1:]}: there is no density on such a plane; `tiltflow fit "
            f"--drop-dependent` leaves it out, and computes it in draws."
        )
    return words


def _on_grids(facts: dict[str, Any]) -> list[str]:
    """What is done about numbers on a grid."""
    if not facts["on_grid"]:
        return []
    entries = [
        entry for entry in facts.get("columns", []) if entry["step"] > 0 and "levels" not in entry
    ]
    many = len(entries) if "columns" in facts else facts["on_grid"]
    if not many:
        return []
    words = "A column is on a grid" if many == 1 else f"{many:,} numbers of a row are on a grid"
    listed = ", ".join(f"'{entry['name']}' of {entry['step']:.4g}" for entry in entries[:NAMED])
    if listed:
        words += f" ({listed}{', ...' if len(entries) > NAMED else ''})"
    return [
        f"{words}: they are dequantised (uniform noise as wide as a step), and likelihoods are "
        f"those of their cells, as of integers."
    ]


def _shared(values: np.ndarray, grid: Grid | None) -> list[Shared]:
    """The continuous numbers of rows that have atoms, which are not set apart."""
    apart = None
    if grid is not None:
        apart = grid.cells.copy()
        apart[list(grid.atoms)] = True
    return shared_values(values, apart)


def _on_atoms(shared: list[Shared], names: list[str], *, table: bool) -> list[str]:
    """What to do about values that many rows of a continuous column share."""
    if not shared:
        return []
    words = of_shared_values(shared, names)
    what = "`--atoms separate` sets such values apart, so that scores count their mass; or " * table
    return [
        f"{words[0].upper()}{words[1:]}: there is no density of the same one, and a model makes "
        f"spikes of such values: {what}add noise of the instrument's own size."
    ]


def _on_categories(facts: dict[str, Any]) -> list[str]:
    """What is done about labels."""
    entries = [entry for entry in facts.get("columns", []) if "levels" in entry]
    if not entries:
        return []
    listed = ", ".join(
        f"'{entry['name']}': {Levels(tuple(entry['levels'])).told()}" for entry in entries[:NAMED]
    )
    more = ", ..." if len(entries) > NAMED else ""
    return [
        f"Categories ({listed}{more}): likelihoods count the mass of a row's label, draws come "
        f"back as labels; a label that the model has not seen is refused."
    ]


def _on_repeats(facts: dict[str, Any]) -> list[str]:
    """Advice where values of columns come back that are on no grid."""
    repeating = [
        entry for entry in facts.get("columns", [])
        if entry["most_common"] > max(COMMON, FEWEST / facts["looked_at"])
        and entry["distinct"] > 1 and not entry["step"] and not entry["atoms"]
    ]  # fmt: skip
    if not repeating:
        return []
    repeating.sort(key=lambda entry: -entry["most_common"])
    worst = repeating[0]
    listed = ", ".join(f"'{entry['name']}'" for entry in repeating[:NAMED])
    more = ", ..." if len(repeating) > NAMED else ""
    return [
        f"Values come back in {len(repeating)} of {len(facts['columns'])} continuous columns "
        f"({listed}{more}); in '{worst['name']}' {worst['most_common']:.0%} of the rows hold the "
        f"same one. A density on repeated values is infinite, and likelihoods mean nothing: say "
        f"that the column is on a grid (--column NAME=grid:STEP) or a category, or add noise as "
        f"wide as the values' rounding."
    ]


def _on_rows(facts: dict[str, Any]) -> list[str]:
    """Advice on rows as wholes."""
    words = []
    again = facts["repeated_rows"]
    train = facts["rows"] - facts["test_rows"] - round(0.1 * facts["rows"])
    train -= 0 if facts["test_rows"] else round(0.2 * facts["rows"])
    if few := of_few_rows(train, math.prod(facts["shape"])):
        words.append(f"{few[0].upper()}{few[1:]}.")
    if again["rows"] and facts["on_grid"] < math.prod(facts["shape"]):
        words.append(
            f"{again['rows']:,} of {facts['rows']:,} rows stand there more than once, one of them "
            f"{again['most']:,} times: copies of training rows among the test rows flatter a "
            f"likelihood; drop them, unless they are draws of their own."
        )
    if facts["test_rows"]:
        words.append(
            f"The set's own {facts['test_rows']:,} test rows are kept for testing; 10% of the "
            f"others are for validation."
        )
    if facts["mapped"]:
        words.append(
            "The file is mapped: rows are read when they are looked at. Learning holds its rows in "
            "memory: take as many as fit (Dataset.take)."
        )
    return words


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
