"""HTML that is safe by construction: text is escaped unless it already is Markup."""

import base64
import re
from html import escape

_VOID = frozenset({"img", "meta", "br", "hr"})
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself sees to it that the page loads nothing and runs nothing."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Finished HTML. Only this module makes it; everything else is text and gets escaped."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: object) -> Markup:
    """One element with its children; None children and None attributes are left out.

    A trailing underscore is dropped from an attribute's name (`class_`), others become dashes.
    """
    opening = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_text(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{opening}>")
    return Markup(f"<{tag}{opening}>{join(*children)}</{tag}>")


def join(*parts: str | None) -> Markup:
    """Parts one after the other, text escaped."""
    return Markup("".join(p if isinstance(p, Markup) else _text(p) for p in parts if p is not None))


def image(png: bytes, alt: str) -> Markup:
    """A PNG inside the page, with its size in pixels so that nothing jumps while it loads."""
    return element(
        "img",
        src="data:image/png;base64," + base64.b64encode(png).decode("ascii"),
        width=int.from_bytes(png[16:20], "big"),
        height=int.from_bytes(png[20:24], "big"),
        alt=alt,
    )


def document(title: str, style: str, *body: str | None) -> str:
    """A whole HTML page. `style` is our own sheet: the one string that is not escaped."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        Markup(f"<style>\n{style}</style>"),
    )
    return "<!doctype html>\n" + element("html", head, element("body", *body), lang="en") + "\n"


def _text(text: str) -> str:
    return escape(_CONTROL.sub("�", text), quote=True)
