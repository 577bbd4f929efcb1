"""The body of the page: figures in five sections, then tables, each introduced."""

import shlex
from collections.abc import Callable, Iterable, Sequence

from . import images, tabular
from .copies import copies_pictures
from .drift import drift_pictures
from .energies import energy_pictures
from .figures import Picture
from .header import checks_of
from .interpolation import interpolation_pictures
from .learning import backbone_pictures, learning_pictures
from .markup import Markup, element, join
from .members import member_pictures
from .mixing import mixing_pictures
from .run_folder import Run
from .tables import checks_table, config_table, health_table, metrics_table

Draw = Callable[[Picture], Markup]
"""Turns a picture into a finished <figure>."""


def contents(names: Iterable[str]) -> Markup:
    """Links to the sections."""
    links = [element("li", element("a", name.capitalize(), href=f"#{name}")) for name in names]
    return element("nav", element("ul", *links), aria_label="Contents")


def sections(run: Run, draw: Draw) -> dict[str, Markup]:
    """All sections by name, in their order; of an unfinished run those that show something.

    A section without words for its absence is shown only if there are figures.
    """
    kind = images if run.is_images else tabular

    def of_images(pictures: Callable[[Run], list[Picture]]) -> list[Picture]:
        return pictures(run) if run.is_images else []

    parts = (
        (
            "samples",
            "Samples",
            "What was observed, where learning started, and what was learned. The tilt has earned "
            "its place when its samples look more like the data than the backbone’s do.",
            [draw(p) for p in kind.sample_plots(run)],
            "No samples in evidence.npz.",
        ),
        (
            "chains",
            "Chains travelling",
            "An energy-based model is only known through its chains. In the backbone’s latent "
            "space they should pass from any kind of observation to any other.",
            [draw(p) for p in kind.travelling_chains(run)],
            "No travelling chains in evidence.npz.",
        ),
        (
            "copies",
            "Copies",
            "A model that has learned its data by heart draws what it has seen. One that has not "
            "draws images that are no nearer to the training images than new ones are.",
            [draw(p) for p in of_images(copies_pictures)],
            None,
        ),
        (
            "between",
            "Between images",
            "Where the backbone has understood the data, the way from one image to another leads "
            "through images.",
            [draw(p) for p in of_images(interpolation_pictures)],
            None,
        ),
        (
            "mixing",
            "Mixing",
            "Whether the draws can stand for the model. f(x) is the hardest to mix and the first "
            "to look at: R-hat of single coordinates can be perfect while f(x) still drifts.",
            [draw(p) for p in (*mixing_pictures(run), *drift_pictures(run))],
            "No traces or diagnostics in evidence.npz.",
        ),
        (
            "learning",
            "Learning",
            "Whether the tilt learned at equilibrium. Particles that teach it are never the ones "
            "that judge it: witnesses move by the same rules but enter no gradient.",
            [
                draw(p)
                for p in (*learning_pictures(run), *backbone_pictures(run), *member_pictures(run))
            ],
            "No events of learning in events.jsonl.",
        ),
        (
            "energies",
            "Energies",
            "The tilt’s own opinion of data and samples, in nats.",
            [draw(p) for p in energy_pictures(run)],
            "No values of f in evidence.npz, or f is 0: the model is its backbone.",
        ),
    )
    shown = {
        name: _section(name, heading, lead, figures, without)
        for name, heading, lead, figures, without in parts
        if figures or (run.judged and without is not None)
    }
    return {**shown, "numbers": _numbers(run)}


def _section(
    anchor: str, heading: str, lead: str, figures: Sequence[Markup], without: str | None
) -> Markup:
    body = (
        element("div", *figures, class_="panels")
        if figures
        else element("p", without, class_="absent")
    )
    return element(
        "section", element("h2", heading), element("p", lead, class_="lead"), body, id=anchor
    )


def _numbers(run: Run) -> Markup:
    absent = {
        "All numbers": "No numbers: metrics.json is written when a run ends.",
        "Checks": "No checks: the verdict has not been written.",
        "Health while learning": "No health events: nothing had to be repaired, or nothing ran.",
        "Configuration": "No configuration in config.toml.",
        "How to reproduce": "The command line was not recorded in config.toml.",
    }
    parts = (
        checks_table(checks_of(run)), metrics_table(run), health_table(run), config_table(run),
        _command(run),
    )  # fmt: skip
    order = ("Checks", "All numbers", "Health while learning", "Configuration", "How to reproduce")
    blocks = [
        join(element("h3", name), part or element("p", absent[name], class_="absent"))
        for name, part in zip(order, parts, strict=True)
    ]
    lead = "What was checked, what was measured, and what it takes to run this again."
    return element(
        "section",
        element("h2", "Numbers"),
        element("p", lead, class_="lead"),
        *blocks,
        id="numbers",
    )


def _command(run: Run) -> Markup | None:
    command = run.config.get("command")
    if isinstance(command, list):
        command = shlex.join(str(part) for part in command)
    if not isinstance(command, str) or not command.strip():
        return None
    return element(
        "pre",
        element("code", command),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label="Command line",
    )
