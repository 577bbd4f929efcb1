"""What stands in a Markdown page: its Python, and its commands."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<text>.*?)^```\s*$", re.DOTALL | re.MULTILINE)
SHELL = ("", "sh", "bash", "console", "text")


class Block(NamedTuple):
    """A fenced block; `line` is that of its first line of text."""

    kind: str
    text: str
    line: int


def pages() -> list[Path]:
    """README and all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order, those hidden in HTML comments among them."""
    return [
        Block(match["kind"].strip(), match["text"], page.count("\n", 0, match.start()) + 2)
        for match in FENCE.finditer(page)
    ]


def python(page: str) -> list[Block]:
    """Those that are Python."""
    return [block for block in blocks(page) if block.kind == "python"]


def commands(page: str, program: str) -> list[list[str]]:
    """The words after `program` in each line of the page's shell blocks that calls it."""
    lines = [line for b in blocks(page) if b.kind in SHELL for line in b.text.splitlines()]
    called = [
        shlex.split(line.removeprefix("$ "), comments=True) for line in lines if program in line
    ]
    return [words[1:] for words in called if words and words[0].endswith(program)]
