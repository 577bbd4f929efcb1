"""What every page of ours is made of: one HTML file with its style and pictures inside."""

from importlib.resources import files
from typing import TYPE_CHECKING

from tiltflow._version import __version__

from .markup import Markup, document, element, image
from .palette import CSS_VARIABLES

if TYPE_CHECKING:
    from .figures import Picture


def offline_page(title: str, *body: Markup) -> bytes:
    """A whole page, `body` in its <main>, as UTF-8."""
    page = document(
        title,
        _style_sheet(),
        element("main", *body),
        element("footer", f"Written by tiltflow {__version__}. This page needs no network."),
    )
    return page.encode("utf-8", "replace")


def plate(picture: "Picture") -> tuple[Markup, bytes | None]:
    """A picture with its words in a <figure>, and its PNG; None if it could not be drawn."""
    from .figures import render  # here, because it imports matplotlib

    try:
        png = render(picture)
    except Exception as error:  # one odd array must not cost the reader the whole page
        why = f"{picture.title}: could not be drawn ({type(error).__name__}: {error})."
        return element("p", why, class_="absent"), None
    figure = element(
        "figure",
        element("h3", picture.title),
        element("div", image(png, picture.alt), class_="plate"),
        element("figcaption", picture.caption) if picture.caption else None,
        class_=picture.span,
        id=f"figure-{picture.name}",
    )
    return figure, png


def _style_sheet() -> str:
    """page.css, with the figures' colours as custom properties."""
    properties = "".join(f"--{name}: {colour}; " for name, colour in CSS_VARIABLES.items())
    sheet = files("tiltflow.report").joinpath("page.css").read_text(encoding="utf-8")
    return f":root {{ {properties}}}\n{sheet}"
