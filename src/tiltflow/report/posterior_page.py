"""The page of a density of the user's own: verdict, log Z, corner plot, modes, checks.

`write_posterior_page` reads the folder that `Posterior.save` has written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltflow.runs import atomic
from tiltflow.runs.posterior_folder import PAGE, columns_of, read_draws, read_numbers

from .header import VERDICTS
from .markup import Markup, element
from .numbers import MISSING, readable, seconds
from .offline import offline_page, plate
from .tables import check_mark, checks_table, scrolling

if TYPE_CHECKING:
    from .figures import Picture

MOST_MEANS = 8  # numbers of a parameter in the table of modes
WORDS = VERDICTS | {"draw more": ("Draw more", "…")}


def write_posterior_page(folder: Path) -> Path:
    """Write report.html and figures/*.png into the folder; returns the path of the page.

    Raises:
        InputError: no posterior is there, or it is damaged, or the disk refuses.
    """
    from .posterior_pictures import pictures  # here, because it imports matplotlib

    told, arrays = read_numbers(folder), read_draws(folder)
    columns, marks = columns_of(arrays), arrays["mode"].ravel()
    figures = folder / "figures"
    with atomic.writing(figures):
        figures.mkdir(exist_ok=True)
    drawn = []
    for picture in pictures(told, columns, marks):
        drawn.append(_figure(picture, figures))
    page = offline_page(
        f"{folder.resolve().name} – tiltflow posterior",
        _header(folder.resolve().name, told),
        element(
            "section",
            element("h2", "What was found"),
            element("p", f"Looked for in {told['verdict']['searched']}.", class_="lead"),
            element("div", *drawn, class_="panels"),
            id="found",
        ),
        element(
            "section",
            element("h2", "Numbers"),
            element("h3", "Modes"),
            _modes(told["modes"], arrays),
            element("h3", "Checks"),
            checks_table(told["verdict"]["checks"]),
            element("h3", "Stages"),
            _stages(told["stages"]),
            id="numbers",
        ),
    )
    atomic.write_bytes(folder / PAGE, page)
    return folder / PAGE


def _figure(picture: Picture, folder: Path) -> Markup:
    figure, png = plate(picture)
    if png is not None:
        atomic.write_bytes(folder / f"{picture.name}.png", png)
    return figure


def _header(name: str, told: Mapping[str, Any]) -> Markup:
    verdict, log_z, worst = told["verdict"], told["log_z"], told["worst"]
    title, sign = WORDS.get(verdict["status"], ("No verdict", "?"))
    look = verdict["status"] if verdict["status"] in ("ok", "failed") else "caution"
    half = 0.5 * ((log_z["high"] or 0) - (log_z["low"] or 0))
    helped = [element("li", line) for line in verdict["helped"]]
    chips = [
        element("li", check_mark(c["ok"]), f" {c['name']} ", element("b", readable(c["value"])))
        for c in verdict["checks"]
        if not c["ok"]
    ]
    spent = f"{told['evaluations']:,} evaluations", seconds(told["seconds"])
    return element(
        "header",
        element("p", "tiltflow posterior", class_="eyebrow"),
        element("h1", name),
        element("p", *(element("span", fact) for fact in spent), class_="facts"),
        element(
            "section",
            element("span", sign, class_="seal", aria_hidden="true"),
            element(
                "div",
                element("h2", title),
                element("p", _sentence(verdict)),
                element("p", "Beyond the first plan: ") if helped else None,
                element("ul", *helped) if helped else None,
                element("ul", *chips, class_="chips") if chips else None,
            ),
            class_=f"verdict {look}",
            aria_label="Verdict",
        ),
        element(
            "dl",
            _number(
                "log Z", f"{log_z['mean']:.3f}",
                f"± {half:.3f} (95%); between {_nats(log_z['lower'])} and "
                f"{_nats(log_z['upper'])} from the two sides",
            ),
            _number("Modes", str(len(told["modes"])), "found; others may lie where none looked"),
            _number(
                "R-hat", readable(worst["rhat"]),
                f"at worst, of {worst['rhat_of']}; {worst['ess_bulk'] or 0:.0f} effective draws",
            ),
            class_="headline",
        ),
    )  # fmt: skip


def _sentence(verdict: Mapping[str, Any]) -> str:
    """Its words without the status, which is the title."""
    words = verdict["text"].removeprefix(f"{verdict['status']}: ")
    return words[:1].upper() + words[1:]


def _nats(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _number(label: str, value: str, below: str) -> Markup:
    return element(
        "div",
        element("dt", label),
        element("dd", value, class_="value"),
        element("dd", below, class_="below"),
    )


def _modes(modes: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]) -> Markup:
    decimals = {
        name: _decimals(float(np.std(arrays[name]))) for mode in modes[:1] for name in mode["mean"]
    }

    def mean(name: str, value: Any) -> str:
        each = np.ravel(np.asarray(value, np.float64))[:MOST_MEANS]
        more = ", ..." if np.size(value) > MOST_MEANS else ""
        return f"{name} {', '.join(f'{v:.{decimals[name]}f}' for v in each)}{more}"

    rows = [
        element(
            "tr",
            element("th", str(number + 1), scope="row"),
            element("td", f"{mode['share']:.4f} ± {mode['error']:.4f}", class_="number"),
            element("td", f"{mode['log_z']:.3f}", class_="number"),
            element("td", str(mode["found_by"]), class_="number"),
            element("td", "; ".join(mean(*pair) for pair in mode["mean"].items())),
        )
        for number, mode in enumerate(modes)
    ]
    head = ("Mode", "Share of the mass", "log Z of it", "Populations with it", "Mean")
    return scrolling("Modes", head, [element("tbody", *rows)], class_="settings modes")


def _decimals(spread: float) -> int:
    """As many as tell a hundredth of the spread."""
    return int(np.clip(1 - np.floor(np.log10(max(spread, 1e-9))), 0, 9))


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> Markup:
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", seconds(spent["seconds"]), class_="number"),
            element("td", f"{spent['evaluations']:,}", class_="number"),
        )
        for name, spent in stages.items()
    ]
    head = ("Stage", "Time", "Evaluations")
    return scrolling("Stages", head, [element("tbody", *rows)], class_="settings")
