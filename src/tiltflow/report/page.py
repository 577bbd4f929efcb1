"""The report of a run as one HTML file that opens anywhere, without a network.

`write_report` reads a run folder in whatever state it is, draws its figures and writes
`figures/*.png` and `report.html`. Whatever is missing is named on the page.
"""

import os
import tempfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tiltflow._version import __version__
from tiltflow.errors import InputError

from .header import header, title
from .markup import Markup, document, element, image
from .palette import CSS_VARIABLES
from .run_folder import read_run

if TYPE_CHECKING:
    from .figures import Picture


def write_report(run_dir: Path, *, name: str | None = None) -> Path:
    """Write report.html and figures/*.png into a run folder; returns the path of the page.

    `name` is the run's; by default the folder's, which is a temporary one while a run is made.

    Raises InputError if there is no such folder. An unfinished or damaged run is no error.
    """
    from .sections import contents, sections  # here, because it imports matplotlib

    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise InputError(f"no run folder at {run_dir}; give the folder that a run has written")
    run = read_run(run_dir)
    if name is not None:
        run = replace(run, name=name)
    pictures = run_dir / "figures"
    pictures.mkdir(exist_ok=True)
    body = sections(run, lambda picture: _figure(picture, pictures))
    page = document(
        f"{title(run)} – tiltflow report",
        _style_sheet(),
        element("main", header(run), contents(), *body),
        element("footer", f"Written by tiltflow {__version__}. This page needs no network."),
    )
    target = run_dir / "report.html"
    _write(target, page.encode("utf-8", "replace"))
    return target


def _figure(picture: "Picture", folder: Path) -> Markup:
    """Draw one picture, keep its file, and put it with its words into a <figure>."""
    from .figures import render

    try:
        png = render(picture)
    except Exception as error:  # one odd array must not cost the reader the whole report
        why = f"{picture.title}: could not be drawn ({type(error).__name__}: {error})."
        return element("p", why, class_="absent")
    _write(folder / f"{picture.name}.png", png)
    return element(
        "figure",
        element("h3", picture.title),
        element("div", image(png, picture.alt), class_="plate"),
        element("figcaption", picture.caption) if picture.caption else None,
        class_=picture.span,
        id=picture.name,
    )


def _style_sheet() -> str:
    """page.css, with the figures' colours as custom properties."""
    properties = "".join(f"--{name}: {colour}; " for name, colour in CSS_VARIABLES.items())
    sheet = files("tiltflow.report").joinpath("page.css").read_text(encoding="utf-8")
    return f":root {{ {properties}}}\n{sheet}"


def _write(path: Path, content: bytes) -> None:
    """Put a file in place whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's umask; there is no way to read it without setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
