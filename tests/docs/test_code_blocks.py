"""Every Python block of README and docs runs, page by page; every command in them parses.

The blocks of a page share one namespace and an empty folder in which `runs/digits` is a model
that has learned next to nothing. What would take minutes is made small by `small`: the pages
themselves say what a user would.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from pages import ROOT, commands, pages, python

import tiltflow
import tiltflow.model.log_normalizer as log_normalizer
from tiltflow import learning
from tiltflow.cli.main import app
from tiltflow.fitting.config import layered, read_config
from tiltflow.model.completion import chains, completer
from tiltflow.normalizer.annealed import LadderSettings

# As the small run of tests/cli, so that its compiled programs serve here, too.
TINY = layered(tiltflow.Settings(), read_config(ROOT / "tests" / "cli" / "small.toml").settings)
# Parts of one's own are for the plane, where standardised rows are the fewest programs.
OWN = replace(TINY, model=replace(TINY.model, units="standardise"))
WITH_PYTHON = [page for page in pages() if python(page.read_text())]
WITH_COMMANDS = [page for page in pages() if commands(page.read_text(), "tiltflow")]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def digits():
    """The digits, hardly learned."""
    return tiltflow.fit(tiltflow.load_data("digits"), TINY, seed=0)


@pytest.fixture
def small(digits, monkeypatch):
    """`fit` returns the digits' model, or learns own parts a little; learners take a few steps.

    Log Z needs no ladder, and chains of rows with gaps are short.
    """

    def fit(data, settings=None, *, seed=0, **own):
        if own:
            return whole(data, OWN, **own)
        assert (data.name, settings, seed) == ("digits", None, 0)
        return digits

    def fit_backbone(flow, train, val, settings, **rest):
        return backbone(flow, train, val, replace(settings, steps=250), **rest)

    def fit_tilt(flow, tilt, train, val, settings, **rest):
        few = replace(settings, steps=40, particles=128, bank=2_000)
        return tilted(flow, tilt, train, val, few, **rest)

    def normalizer(model, **rest):
        few = {"settings": LadderSettings(tolerance=100.0), "exact_draws": 20_000}
        return log_normalizer.log_normalizer(model, **few | rest)

    whole = tiltflow.fit
    backbone, tilted = learning.fit_backbone, learning.fit_tilt
    monkeypatch.setattr(completer, "AGAIN", (1,))
    monkeypatch.setattr(chains, "KEPT", 50)
    monkeypatch.setattr(chains, "WARMUP", 50)
    monkeypatch.setattr(tiltflow, "fit", fit)
    monkeypatch.setattr(tiltflow, "log_normalizer", normalizer)
    monkeypatch.setattr(learning, "fit_backbone", fit_backbone)
    monkeypatch.setattr(learning, "fit_tilt", fit_tilt)


@pytest.fixture
def namespace(small, digits, tmp_path, monkeypatch):
    """Where a page's blocks run."""
    digits.model.save(tmp_path / "runs" / "digits" / "model")
    monkeypatch.chdir(tmp_path)
    return {"__name__": "__page__"}


def run(page: str, names: dict, where: str) -> None:
    """The page's blocks; an error tells the page's own line."""
    for block in python(page):
        exec(compile("\n" * (block.line - 1) + block.text, where, "exec"), names)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_blocks_of_a_page_run(page, namespace):
    run(page.read_text(), namespace, str(page))


def test_a_page_with_a_mistake_fails(namespace):
    """Power: what the test above would not see it would not be worth."""
    page = (
        "# A page\n\n```python\nimport tiltflow\n```\n\nText.\n\n```python\ntiltflow.fitt()\n```\n"
    )
    with pytest.raises(AttributeError, match="fitt") as raised:
        run(page, namespace, "page.md")
    assert raised.traceback[-2].lineno == 9  # counted from 0: the page's tenth line


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_the_commands_of_a_page_parse(page):
    for words in commands(page.read_text(), "tiltflow"):
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_a_command_with_a_mistake_does_not_parse():
    page = "```sh\ntiltflow sample runs/digits --draw 1000  # a comment\n```\n"
    (words,) = commands(page, "tiltflow")
    assert words == ["sample", "runs/digits", "--draw", "1000"]
    with pytest.raises(Exception, match="--draw"):
        app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("program", ["python", "make"])
def test_scripts_and_targets_that_pages_name_are_there(program):
    targets = [line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines()]
    for page in pages():
        for first, *_ in filter(None, commands(page.read_text(), program)):
            if program == "make":
                assert first in targets, name(page)
            elif first.endswith(".py"):
                assert (ROOT / first).is_file(), name(page)
