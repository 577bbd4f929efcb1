"""What is shown of a fit while it runs."""

import pytest

from tiltflow.cli.progress import Progress


def shown(capsys, *events):
    with Progress() as progress:
        for phase, event, fields in events:
            progress.tell(phase, event, **fields)
    return capsys.readouterr().err


def test_a_contrast_moves_the_bar_and_says_how_well_it_does(capsys):
    told = shown(
        capsys, ("tilt", "contrast", {"step": 500, "steps": 2_000, "loss": 0.5, "accuracy": 0.812})
    )
    assert "told apart 81.2% of the time" in told


@pytest.mark.parametrize(
    ("event", "fields", "words"),
    [
        ("health", {"action": "none", "why": "told apart [always]"}, "told apart [always]: none"),
        ("stopped", {"why": "the gain has not grown"}, "stopped: the gain has not grown"),
    ],
)
def test_what_went_wrong_is_a_line_that_stays(capsys, event, fields, words):
    assert words in shown(capsys, ("tilt", event, fields))
    assert words not in shown(capsys, ("run", "began", fields))
