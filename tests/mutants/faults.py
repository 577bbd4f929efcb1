"""The list of faults, `faults.toml`: what each breaks, where, and which tests should notice.

A fault is a line, or a part of one, that stands exactly once in its file, and what is put in its
place. A list is kept in TOML so that paths and names of tests can be changed with a text editor.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("faults.toml")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        breaks: what is wrong with it, in words.
        file: where it is made, from the project's root.
        old: what stands there exactly once, within one line.
        new: what is put in its place, one line.
        tests: what should notice: pytest's node ids from the project's root, `file::test`.
    """

    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def made(self, text: str) -> str:
        """The text of the file with the fault in it.

        Raises:
            Stale: `old` does not stand there exactly once.
        """
        if (number := text.count(self.old)) != 1:
            raise Stale(f"{self.old!r} stands {number} times in {self.file}; expected once")
        return text.replace(self.old, self.new)


class Stale(Exception):
    """The code is not what the fault was written for: mend the entry in the list."""


def read(path: Path = LIST) -> list[Fault]:
    """The faults in a list; TypeError for an entry with other keys than `Fault` has."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def mistakes(faults: Iterable[Fault], root: Path) -> list[str]:
    """What is wrong with a list itself, in sentences; nothing is run."""
    found = []
    seen = set()
    for fault in faults:
        where = f"{fault.file} ({fault.breaks})"
        if "\n" in fault.old + fault.new or fault.old == fault.new or not fault.tests:
            found.append(f"{where}: expected another line for one line, and tests")
        if (fault.file, fault.old, fault.new) in seen:
            found.append(f"{where} is there twice")
        seen.add((fault.file, fault.old, fault.new))
        path = root / fault.file
        if not path.is_file():
            found.append(f"{where}: there is no such file")
            continue
        try:
            compile(fault.made(path.read_text(encoding="utf-8")), fault.file, "exec")
        except Stale as error:
            found.append(f"{where}: {error}")
        except SyntaxError as error:
            found.append(f"{where}: with the fault it is not Python ({error.msg})")
        missing = {test.partition("::")[0] for test in fault.tests}
        missing = sorted(file for file in missing if not (root / file).exists())
        if missing:
            found.append(f"{where}: there is no {missing[0]}")
    return found
