"""Categories: few values, numbers or text, as cells of width 1 in a fixed order.

The coding is kept with the model: label number k, from 0, has the cell [k, k + 1). The commonest
text comes first; numbers come in their order. In arrays a text stands as its k, a number as itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltflow.errors import InputError

MOST_LEVELS = 64
"""Labels of a column of text that nobody has called a category."""
MOST_ASKED = 256
"""Labels of any category."""
NAMED = 5  # labels in a message
LONGEST = 40  # characters of a label in a message


@dataclass(frozen=True)
class Levels:
    """The labels of a category, all texts or all numbers, in the order of their cells.

    Attributes:
        labels: see above.
        ordered: whether they are the few numbers of a column that nobody has called a category:
            neighbours in that order are alike.
    """

    labels: tuple[str, ...] | tuple[float, ...]
    ordered: bool = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def are_text(self) -> bool:
        """Whether arrays hold their numbers, and not themselves."""
        return isinstance(self.labels[0], str)

    @property
    def texts(self) -> tuple[str, ...]:
        """The labels as text."""
        return tuple(map(str, self.labels))

    def to_cells(self, x: np.ndarray) -> np.ndarray:
        """The number of each value's label, float32; -1 for none of them."""
        if self.are_text:
            known = (x >= 0) & (x < len(self)) & (x == np.floor(x))
            return np.where(known, x, -1).astype(np.float32)
        order = np.argsort(self.labels)
        numbers = np.asarray(self.labels, np.float32)[order]
        at = np.minimum(np.searchsorted(numbers, x), len(numbers) - 1)
        return np.where(numbers[at] == x, order[at], -1).astype(np.float32)

    def from_cells(self, cells: np.ndarray) -> np.ndarray:
        """Values in arrays of points in cells, float32; beyond the last cell, of the last."""
        codes = np.clip(np.floor(cells), 0, len(self) - 1)
        if self.are_text:
            return codes.astype(np.float32)
        return np.asarray(self.labels, np.float32)[codes.astype(np.int64)]

    def labelled(self, x: np.ndarray) -> np.ndarray:
        """Values in arrays as labels: of text, an array of objects."""
        if not self.are_text:
            return x
        return np.asarray(self.labels, object)[np.asarray(x, np.int64)]

    @property
    def kind(self) -> str:
        """What a column of them is taken for, in a few words."""
        return f"{len(self)} uneven values" if self.ordered else f"category of {len(self)}"

    @classmethod
    def from_list(cls, labels: Any, *, ordered: bool = False) -> Levels:
        """From a list that was read from a file; ValueError if they can be no labels."""
        kinds = {type(label) for label in labels} if isinstance(labels, list) else set()
        if not kinds or not (kinds == {str} or kinds <= {int, float}):
            raise ValueError("the labels of a category are neither texts nor numbers")
        if kinds != {str}:
            labels = [float(np.float32(label)) for label in labels]
        if len(set(labels)) < len(labels) or len(labels) > MOST_ASKED:
            raise ValueError("the labels of a category are too many, or not all different")
        if kinds != {str} and not np.all(np.isfinite(labels)):
            raise ValueError("the labels of a category are not finite")
        if ordered and (kinds == {str} or labels != sorted(labels)):
            raise ValueError("the values of a column are no numbers in their order")
        return cls(tuple(labels), ordered)

    def told(self) -> str:
        """Some of them in words."""
        some = ", ".join(shown(label) for label in self.labels[:NAMED])
        return some + (", ..." if len(self) > NAMED else "")


def shown(label: str | float) -> str:
    """A label in a message."""
    if not isinstance(label, str):
        return f"{label:g}"
    return repr(label if len(label) <= LONGEST else label[:LONGEST] + "...")


class Coder:
    """Labels of one column as numbers, in the order in which they come; or as they are known."""

    def __init__(self, known: Sequence[str] | None = None) -> None:
        """`known`: the only labels; others get numbers below 0, and are remembered."""
        self.fixed = known is not None
        self._codes = {label: code for code, label in enumerate(known or ())}
        self._labels = list(known or ())
        self._others: list[str] = []

    @property
    def known(self) -> list[str]:
        """The labels that have numbers from 0."""
        return self._labels

    def codes(self, texts: Any) -> np.ndarray:
        """Numbers of labels, float64, `[rows]`; blanks around a label are no part of it.

        `texts` are a list of them, or pyarrow's array, best one of a dictionary.
        """
        import pyarrow

        if not isinstance(texts, pyarrow.DictionaryArray):
            texts = pyarrow.array(texts, pyarrow.string()).dictionary_encode()
        of = np.array([self._code(text.strip()) for text in texts.dictionary.to_pylist()], float)
        return of[texts.indices.to_numpy(zero_copy_only=False)] if len(of) else np.empty(0)

    def _code(self, label: str) -> int:
        if label not in self._codes:
            if self.fixed:
                self._others.append(label)
                self._codes[label] = -len(self._others)
            else:
                self._codes[label] = len(self._labels)
                self._labels.append(label)
        return self._codes[label]

    def label(self, code: float) -> str | None:
        """The label that `codes` has given this number; None: it has given it to none."""
        among, place = (self._labels, code) if code >= 0 else (self._others, -code - 1)
        return among[int(place)] if place in range(len(among)) else None

    def finished(self, column: np.ndarray) -> tuple[str, ...]:
        """All labels, the commonest first; the numbers in `column` are changed to that order."""
        counts = np.bincount(column.astype(np.int64), minlength=len(self._labels))
        order = sorted(range(len(counts)), key=lambda code: (-counts[code], self._labels[code]))
        places = np.empty(len(order))
        places[order] = np.arange(len(order))
        column[:] = places[column.astype(np.int64)]
        return tuple(self._labels[code] for code in order)


class Texts:
    """The columns of a source that hold text, by name; a column without one goes by its number.

    Attributes:
        fixed: whether no other columns may hold text than those that are known.
        gaps: whether a label may be missing.
    """

    def __init__(
        self,
        known: Mapping[str, Sequence[str]] | None = None,
        asked: Collection[str] = (),
    ) -> None:
        """Columns as they are found.

        Args:
            known: the labels of those columns that a model knows; None: there is no model yet.
            asked: columns that are categories because somebody says so.
        """
        self.fixed, self._asked = known is not None, set(asked)
        self._coders = {name: Coder(labels) for name, labels in (known or {}).items()}
        self.gaps = False

    def with_gaps(self) -> Texts:
        """The same where a label may be missing, and is told as NaN."""
        self.gaps = True
        return self

    def wants(self, name: str) -> bool:
        """Whether a column is to be read as text, whatever it looks like."""
        return name in self._coders or name in self._asked

    def coder(self, name: str, *, category: bool = False) -> Coder:
        """The coder of a column, a new one if need be; a `category` by its type, whatever it holds.

        A column that no model knows has a coder of its own for the moment, where others are known.
        """
        if self.fixed:
            return self._coders.get(name) or Coder()
        if category:
            self._asked.add(name)
        return self._coders.setdefault(name, Coder())

    def shown(self, name: str, value: float) -> str:
        """A value of a column in words: its label, where it has one."""
        label = self._coders[name].label(value) if name in self._coders else None
        return f"{value:g}" if label is None else shown(label)

    def refuse_unknown(self, array: np.ndarray, names: Sequence[str], where: str) -> None:
        """Raises InputError for a label in `[rows, columns]` that is none of those known."""
        for place, name in enumerate(names):
            key = name or str(place)
            if self.fixed and key in self._coders and (array[:, place] < 0).any():
                row, coder = int(np.argmax(array[:, place] < 0)), self._coders[key]
                known = Levels(tuple(coder.known))
                raise InputError(
                    f"{where}, column '{key:.60}', row {row} holds "
                    f"{self.shown(key, array[row, place])}, which the model has not seen; expected "
                    f"a label that it was fitted to: {known.told()}"
                )

    def finished(
        self, array: np.ndarray, names: Sequence[str], where: str
    ) -> dict[int, tuple[str, ...]]:
        """The labels of the columns of `[rows, columns]`, by their number, once all are read.

        Their codes in the array are changed to the order of these labels. Where all labels are
        numbers, these stand in the array instead; of a category by its type there are none then.

        Raises:
            InputError: a blank cell.
        """
        found = {}
        for place, name in enumerate(names):
            key = name or str(place)
            if key not in self._coders or self.fixed:
                continue
            labels = self._coders[key].finished(array[:, place])
            if "" in labels:
                row = int(np.argmax(array[:, place] == labels.index("")))
                raise InputError(
                    f"{where}, column '{key:.60}', row {row} is blank; expected a label: fill it "
                    f"in or drop the row"
                )
            if all(map(is_written_number, labels)):
                array[:, place] = np.array(labels, float)[array[:, place].astype(np.int64)]
                labels = ()
            if labels or key in self._asked:
                found[place] = labels
        return found


def is_written_number(label: str) -> bool:
    """Whether a label is the text of a finite number, and no code as `07` is."""
    digits = label.lstrip("+-")
    try:
        is_code = digits[:1] == "0" and digits[1:2].isdigit()
        return bool(np.isfinite(float(label))) and not is_code and "_" not in label
    except ValueError:
        return False


def levels_of_numbers(column: np.ndarray, *, ordered: bool = False) -> Levels:
    """The labels of a column of numbers, float32, in increasing order."""
    return Levels(tuple(map(float, np.unique(column.astype(np.float32)))), ordered)
