"""The top of the page: which run this is, whether to trust it, and its three numbers."""

from collections.abc import Mapping
from typing import Any

from .markup import Markup, element, join
from .numbers import MISSING, finite, interval, nats, readable, seconds, shape, signed_nats
from .run_folder import Run, column
from .tables import check_mark

VERDICTS = {
    "ok": ("Sound", "✓"),
    "draw more": ("Draw more", "+"),
    "caution": ("Caution", "!"),
    "failed": ("Failed", "✕"),
    "unfinished": ("Unfinished", "…"),
}
"""Title and sign of each status; anything else is no verdict."""
NOT_YET = "not measured yet"


def header(run: Run) -> Markup:
    """Title, verdict, headline numbers, and what is missing."""
    return element(
        "header",
        element("p", "tiltflow report", class_="eyebrow"),
        element("h1", title(run)),
        element("p", *_facts(run), class_="facts"),
        _verdict(run),
        _headline(run),
        _missing(run),
        _formula(),
    )


def title(run: Run) -> str:
    """The data's name, else the run folder's."""
    return run.data_name or run.name


def checks_of(run: Run) -> list[Mapping[str, Any]]:
    """The verdict's checks, as far as they are well formed."""
    checks = run.metric("verdict", "checks")
    return [c for c in checks if isinstance(c, Mapping)] if isinstance(checks, list) else []


def observation(run: Run) -> str:
    """What one observation is called."""
    sides = run.event_shape or run.metric("data", "shape")
    if not isinstance(sides, list | tuple) or not sides:
        return "observation"
    return "image" if len(sides) > 1 else "row"


def _facts(run: Run) -> list[Markup]:
    """The run in a line: its name, its data, how long it took."""
    facts = [f"run {run.name}"]
    for field, word in (("train", "training"), ("val", "validation"), ("test", "test")):
        count = finite(run.metric("data", field))
        facts += [] if count is None else [f"{count:,.0f} {word}"]
    sides = run.metric("data", "shape")
    if isinstance(sides, list) and sides:
        columns = "column" if sides == [1] else "columns"
        facts.append(shape(sides) + (" pixels" if len(sides) > 1 else f" {columns}"))
    if finite(run.metric("seconds", "total")) is not None:
        facts.append(seconds(run.metric("seconds", "total")))
    return [element("span", fact) for fact in facts]


def _verdict(run: Run) -> Markup:
    status = run.metric("verdict", "status") if run.judged else "unfinished"
    name, sign = VERDICTS.get(status, ("No verdict", "?"))
    text = run.metric("verdict", "text")
    words = [text] if isinstance(text, str) and text.strip() else []
    chips = [
        element(
            "li", check_mark(c.get("ok")), f" {readable(c.get('name'))} ",
            element("b", readable(c.get("value"))),
        )
        for c in checks_of(run)
    ]  # fmt: skip
    return element(
        "section",
        element("span", sign, class_="seal", aria_hidden="true"),
        element(
            "div",
            element("h2", name),
            *(element("p", sentence) for sentence in words or _progress(run)),
            _parts(run),
            element("ul", *chips, class_="chips") if chips else None,
        ),
        class_=f"verdict {class_of(status)}",
        aria_label="Verdict",
    )


def class_of(status: Any) -> str:
    """The style of a status."""
    return status.replace(" ", "-") if status in VERDICTS and status != "unfinished" else "none"


def _parts(run: Run) -> Markup | None:
    """The verdict's parts, each with its status."""
    parts = run.metric("verdict", "parts")
    if not isinstance(parts, Mapping) or not parts:
        return None
    each = [
        element(
            "li", readable(part), " ", element("b", status, class_=f"status {class_of(status)}")
        )
        for part, status in parts.items()
        if isinstance(status, str)
    ]
    return element("ul", *each, class_="parts")


def _progress(run: Run) -> list[str]:
    """How far a run without a verdict has come, why it stopped, and how to go on."""
    words = ["This run has not been judged: what follows is work in progress."]
    if run.last_event is not None:
        words.append(f"Last event: {run.last_event}.")
    for stop in run.happened("run", "stopped")[-1:]:
        words.append(f"It stopped: {readable(stop.get('why'))}.")
    if not run.judged and run.config:
        words.append("The command that began it goes on with --resume.")
    return words


def _headline(run: Run) -> Markup:
    if not run.judged:
        return _so_far(run)
    unit = f"nats per {observation(run)}"
    tilted = interval(run.metric("tilted", "nll_low"), run.metric("tilted", "nll_high"))
    low, high = run.metric("gain_nats", "low"), run.metric("gain_nats", "high")
    gain = interval(low, high) and f"{signed_nats(low)} to {signed_nats(high)}"
    numbers = element(
        "dl",
        _number(
            "Backbone", "backbone", nats(run.metric("backbone", "nll_test")),
            f"{unit}, test data{_bits(run, 'backbone')}", struck=_is_struck(run, "backbone"),
        ),
        _number(
            "Tilted model", "tilted", nats(run.metric("tilted", "nll_test")),
            f"95% interval {tilted}{_bits(run, 'tilted')}" if tilted else "no interval",
            struck=_is_struck(run, "tilted"),
        ),
        _number(
            "Gain", "gain", signed_nats(run.metric("gain_nats", "mean")),
            f"95% interval {gain}" if gain else "no interval", struck=_is_struck(run, "gain"),
        ),
        class_="headline",
    )  # fmt: skip
    note = "Negative log-likelihood in nats: lower is better. Gain: higher is better."
    if run.is_bound:
        note = f"{note} Those of a variational autoencoder are bounds: it is at most as large."
    note += _beside_simple(run)
    of_data = run.metric("data", "note")
    if isinstance(of_data, str):
        note = f"{note} Data: {of_data}."
    return join(numbers, element("p", note, class_="note"))


def _beside_simple(run: Run) -> str:
    """By how much the model is ahead of simple ones, in words, or nothing."""
    simple = run.metric("simple_models")
    blocks = simple.values() if isinstance(simple, Mapping) else []
    each = [
        f"{readable(block.get('name'))} ({signed_nats(block.get('ahead'))})"
        for block in blocks
        if isinstance(block, Mapping)
    ]
    return f" Ahead of {', '.join(each)} on the same rows." if each else ""


def _bits(run: Run, block: str) -> str:
    """Bits per dimension, which images are compared in, or nothing."""
    bits = finite(run.metric(block, "bpd"))
    return "" if bits is None else f"; {bits:.3f} bits/dim"


def _so_far(run: Run) -> Markup:
    """What learning itself says, on validation data, before chains started afresh have judged."""
    flow = column(run.happened("backbone", "progress"), "nll_val")
    gain = column(run.while_learning("stage"), "gain_val")
    told = "nats on validation data, so far"
    numbers = element(
        "dl",
        _number("Backbone", "backbone", nats(flow.min()) if flow.size else MISSING, told, NOT_YET),
        _number("Tilted model", "tilted", MISSING, "", NOT_YET),
        _number(
            "Gain", "gain", signed_nats(gain[-1, 0]) if gain.size else MISSING,
            f"{told}, by witnesses", NOT_YET,
        ),
        class_="headline",
    )  # fmt: skip
    note = "What learning says of itself is not a result: chains started afresh will judge it."
    return join(numbers, element("p", note, class_="note"))


def _number(
    label: str,
    class_: str,
    value: str,
    below: str,
    without: str = "not known: see the verdict",
    *,
    struck: bool = False,
) -> Markup:
    """A number and what is to be said of it, or what is said `without` it; or it is `struck`."""
    missing = value == MISSING
    if struck and not missing:
        below = f"not to be used: see the verdict; {below}"
    return element(
        "div",
        element("dt", label),
        element("dd", element("s", value) if struck and not missing else value, class_="value"),
        element("dd", without if missing else below, class_="below"),
        class_=f"{class_} missing" if missing else class_,
    )


def _is_struck(run: Run, label: str) -> bool:
    """Whether a number is not to be used: that of a backbone is, where only the rest has failed."""
    parts = run.metric("verdict", "parts")
    parts = parts if isinstance(parts, Mapping) else {}
    of_all = {part for part, status in parts.items() if status == "failed"}
    return bool(of_all & {"data", "backbone"}) or (label != "backbone" and bool(of_all))


def _missing(run: Run) -> Markup | None:
    if not run.problems:
        return None
    return element(
        "aside",
        element("h2", "Missing or unreadable" if run.judged else "Not there yet, or unreadable"),
        element("ul", *(element("li", problem) for problem in run.problems)),
        class_="missing-parts",
    )


def _formula() -> Markup:
    q, f, x = element("i", "q", class_="backbone"), element("i", "f"), element("i", "x")
    p, z = element("i", "p", class_="tilted"), element("i", "Z")
    exponent = element("sup", f, "(", x, ")")
    formula = element(
        "span", p, "(", x, ") = e", exponent, " ", q, "(", x, ") / ", z, class_="formula"
    )
    return element(
        "p", formula,
        join(" The backbone ", q, " is corrected by a learned tilt ", f, ". "),
        join("Larger ", f, " is more probable; the energy is −", f, "."),
        class_="idea",
    )  # fmt: skip
