"""The tables of the page: all numbers, the verdict's checks, health events, the configuration."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .glossary import GROUPS, MEANINGS
from .markup import Markup, element, join
from .numbers import flatten, literal, readable, seconds, shape
from .run_folder import Run

MAX_EVENTS = 50


def metrics_table(run: Run) -> Markup | None:
    """Every number of metrics.json by its dotted name, in groups; the verdict has its own table."""
    groups = _grouped({k: v for k, v in run.metrics.items() if k != "verdict"})
    if not groups:
        return None
    bodies = [
        element(
            "tbody",
            element("tr", element("th", GROUPS.get(group, group), colspan=3, scope="rowgroup")),
            *(_metric_row(name, value) for name, value in leaves),
        )
        for group, leaves in groups.items()
    ]
    return scrolling("All numbers", ("Name", "Value", "Meaning"), bodies, class_="numbers")


def checks_table(checks: Iterable[Mapping[str, Any]]) -> Markup | None:
    """What the verdict looked at: passed or not, value, limit, what it means, what to try."""
    rows = [
        element(
            "tr",
            element("td", check_mark(check.get("ok"))),
            element("th", readable(check.get("name")), scope="row"),
            element("td", readable(check.get("value")), class_="number"),
            element("td", readable(check.get("limit")), class_="number"),
            element("td", readable(check.get("means"))),
            element("td", readable(check.get("try"))),
        )
        for check in checks
    ]
    if not rows:
        return None
    head = ("", "Check", "Value", "Limit", "A failure means", "Then try")
    return scrolling("The verdict’s checks", head, [element("tbody", *rows)], class_="checks")


def health_table(run: Run) -> Markup | None:
    """What was done about trouble while learning, the last MAX_EVENTS of it."""
    events = run.while_learning("health")
    rows = [
        element(
            "tr",
            element("td", seconds(e.get("time")), class_="number"),
            element("td", readable(e.get("action"))),
            element("td", readable(e.get("why"))),
        )
        for e in events[-MAX_EVENTS:]
    ]
    if not rows:
        return None
    head = ("After", "Action", "Why")
    table = scrolling("Health events", head, [element("tbody", *rows)], class_="health")
    left_out = len(events) - len(rows)
    return join(table, element("p", f"{left_out} earlier ones left out.") if left_out else None)


def config_table(run: Run) -> Markup | None:
    """The configuration by dotted names, in groups; its command line is shown elsewhere."""
    groups = _grouped({k: v for k, v in run.config.items() if k != "command"})
    if not groups:
        return None
    bodies = [
        element("tbody", *(_setting_row(name, value) for name, value in leaves))
        for leaves in groups.values()
    ]
    return scrolling("Configuration", ("Setting", "Value"), bodies, class_="numbers config")


def scrolling(label: str, head: Sequence[str], bodies: Sequence[Markup], class_: str) -> Markup:
    """A table in a box of its own that scrolls sideways where the screen is narrow."""
    titles = [element("th", title, scope="col") if title else element("td") for title in head]
    table = element("table", element("thead", element("tr", *titles)), *bodies, class_=class_)
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def check_mark(ok: object) -> Markup:
    """A sign for passed, failed or unknown that does not rest on colour alone."""
    word, sign = ("unknown", "–")
    if isinstance(ok, bool):
        word, sign = ("passed", "✓") if ok else ("failed", "✕")
    return element("span", sign, class_=f"mark {word}", role="img", aria_label=word)


def _metric_row(name: str, value: Any) -> Markup:
    return element(
        "tr",
        element("th", element("code", name), scope="row"),
        element("td", shape(value) if name == "data.shape" else readable(value), class_="number"),
        element("td", MEANINGS.get(name, ""), class_="meaning"),
    )


def _setting_row(name: str, value: Any) -> Markup:
    return element(
        "tr",
        element("th", element("code", name), scope="row"),
        element("td", element("code", literal(value))),
    )


def _grouped(tree: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """Flattened leaves under their outermost key; loose leaves come first, under 'General'."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name, value in flatten(tree):
        group = (
            name.split(".")[0] if isinstance(tree.get(name.split(".")[0]), Mapping) else "General"
        )
        groups.setdefault(group, []).append((name, value))
    return dict(sorted(groups.items(), key=lambda item: item[0] != "General"))
