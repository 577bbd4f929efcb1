"""A comparison of runs as one HTML page that opens without a network."""

from pathlib import Path

from matplotlib.figure import Figure

from tiltflow.runs import atomic

from . import palette
from .comparison import UNKNOWN, Comparison, Entry, best
from .figures import Picture, axes_with
from .header import VERDICTS, class_of
from .markup import Markup, element, join
from .numbers import interval, literal, nats, readable, seconds, signed_nats
from .offline import offline_page, plate
from .tables import scrolling

SHOWN = 24  # characters of a label in a picture


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page; raises InputError, a former page intact, if the disk refuses."""
    title = f"{len(comparison.entries)} runs compared"
    page = offline_page(f"{title} – tiltflow", _header(comparison, title), *_sections(comparison))
    atomic.write_bytes(path, page)
    return path


def _header(comparison: Comparison, title: str) -> Markup:
    apart = len(comparison.groups) > 1 or UNKNOWN in comparison.groups
    return element(
        "header",
        element("p", "tiltflow compare", class_="eyebrow"),
        element("h1", title),
        element(
            "section",
            element("span", "!" if apart else "=", class_="seal", aria_hidden="true"),
            element(
                "div",
                element("h2", "Different data" if apart else "The same data"),
                *(element("p", note) for note in comparison.notes),
            ),
            class_=f"verdict {'caution' if apart else 'none'}",
            aria_label="What can be compared",
        ),
    )


def _sections(comparison: Comparison) -> list[Markup]:
    pictures = [_picture(group, members) for group, members in comparison.groups.items()]
    figures = [plate(picture)[0] for picture in pictures if picture is not None]
    return [
        _section(
            "likelihoods",
            "Likelihoods",
            "Test data, data units. Intervals are 95%: the error of log Z and of the test set.",
            _results(comparison),
            element("div", *figures, class_="panels") if figures else None,
        ),
        _section(
            "settings",
            "Settings that differ",
            "Settings that are the same in all runs are left out.",
            _settings(comparison)
            or element("p", "No setting differs between these runs.", class_="absent"),
        ),
    ]


def _section(anchor: str, heading: str, lead: str, *body: Markup | None) -> Markup:
    return element(
        "section", element("h2", heading), element("p", lead, class_="lead"), *body, id=anchor
    )


def _results(comparison: Comparison) -> Markup:
    head = (
        "Run", "Data", "Verdict", "Backbone, nats", "Tilted, nats", "Gain, nats", "R-hat",
        "Effective draws", "Time",
    )  # fmt: skip
    firsts = [
        best(members)
        for group, members in comparison.groups.items()
        if group != UNKNOWN and len(members) > 1
    ]
    bodies = [
        element("tbody", *(_row(entry, first=entry in firsts) for entry in members))
        for members in comparison.groups.values()
    ]
    return scrolling("Runs", head, bodies, class_="compared")


def _row(entry: Entry, *, first: bool) -> Markup:
    name, _ = VERDICTS.get(entry.status, ("No verdict", "?"))
    status = class_of(entry.status)
    ends = interval(entry.number("tilted", "nll_low"), entry.number("tilted", "nll_high"))
    low, high = entry.number("gain_nats", "low"), entry.number("gain_nats", "high")
    data = f"{entry.run.data_name or 'not recorded'} ({entry.group})"
    return element(
        "tr",
        element("th", entry.label, scope="row"),
        element("td", data),
        element(
            "td",
            element("span", name, class_=f"status {status}"),
            _below(entry.run.last_event) if entry.status == "unfinished" else None,
        ),
        _cell(nats(entry.number("backbone", "nll_test"))),
        _cell(nats(entry.number("tilted", "nll_test")), ends, class_="best" if first else None),
        _cell(
            signed_nats(entry.number("gain_nats", "mean")),
            interval(low, high) and f"{signed_nats(low)} to {signed_nats(high)}",
        ),
        _cell(readable(entry.number("mixing", "rhat_max"))),
        _cell(readable(entry.number("mixing", "ess_bulk_min"))),
        _cell(seconds(entry.number("seconds", "total"))),
        class_=None if entry.trusted else "muted",
    )


def _cell(value: str, below: str | None = None, *, class_: str | None = None) -> Markup:
    return element("td", element("span", value, class_=class_), _below(below), class_="number")


def _below(words: str | None) -> Markup | None:
    return element("span", words, class_="below") if words else None


def _settings(comparison: Comparison) -> Markup | None:
    if not comparison.settings:
        return None
    rows = [
        element(
            "tr",
            element("th", element("code", name), scope="row"),
            *(element("td", _setting(value)) for value in values),
        )
        for name, values in comparison.settings.items()
    ]
    head = ("Setting", *(entry.label for entry in comparison.entries))
    return scrolling("Settings", head, [element("tbody", *rows)], class_="compared settings")


def _setting(value: object) -> Markup:
    return join("–") if value is None else element("code", literal(value))


def _picture(group: str, members: list[Entry]) -> Picture | None:
    """The intervals of the runs on the same data, one below the other."""
    shown = [entry for entry in members if entry.number("tilted", "nll_test") is not None]
    if group == UNKNOWN or len(shown) < 2:
        return None
    name = shown[0].run.data_name or f"data {group}"

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "nats per example, lower is better", " ")
        for height, entry in enumerate(shown):
            _interval(axes, -height, entry)
        axes.set_yticks([-i for i in range(len(shown))], [e.label[-SHOWN:] for e in shown])
        axes.set_ylim(0.6 - len(shown), 0.6)
        axes.margins(x=0.06)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")

    caption = (
        "Dots: the backbone alone. Lines: the tilted model, with its 95% interval; hollow where "
        "the chains have not converged."
    )
    alt = "; ".join(f"{e.label} {nats(e.number('tilted', 'nll_test'))}" for e in shown)
    size = (9.6, 1.1 + 0.42 * len(shown))
    return Picture(
        f"likelihoods_{group}", f"Negative log-likelihood, {name} ({group})", caption,
        f"Tilted models, nats per example: {alt}.", draw, "full", size,
    )  # fmt: skip


def _interval(axes, height: int, entry: Entry) -> None:
    value = entry.number("tilted", "nll_test")
    low, high = entry.number("tilted", "nll_low"), entry.number("tilted", "nll_high")
    if low is not None and high is not None:
        axes.plot([low, high], [height] * 2, color=palette.TILTED, linewidth=2.4)
    axes.plot(
        [value], [height], marker="o", markersize=7, color=palette.TILTED, markeredgewidth=1.6,
        markerfacecolor=palette.TILTED if entry.trusted else palette.PAPER,
    )  # fmt: skip
    if (flow := entry.number("backbone", "nll_test")) is not None:
        axes.plot([flow], [height], marker="o", markersize=5, color=palette.BACKBONE)
