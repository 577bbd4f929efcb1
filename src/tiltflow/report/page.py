"""The report of a run as one HTML file that opens anywhere, without a network.

`write_report` reads a run folder in whatever state it is, draws its figures and writes
`figures/*.png` and `report.html`. Whatever is missing is named on the page.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiltflow.errors import InputError
from tiltflow.runs import atomic

from .header import header, title
from .markup import Markup
from .offline import offline_page, plate
from .run_folder import read_run

if TYPE_CHECKING:
    from .figures import Picture


def write_report(run_dir: Path, *, name: str | None = None) -> Path:
    """Write report.html and figures/*.png into a run folder; returns the path of the page.

    `name` is the run's; by default the folder's, which is a temporary one while a run is made.

    Raises InputError if there is no such folder, or the disk refuses; the page there is then as
    it was. An unfinished or damaged run is no error.
    """
    from .sections import contents, sections  # here, because it imports matplotlib

    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise InputError(f"no run folder at {run_dir}; give the folder that a run has written")
    run = read_run(run_dir)
    if name is not None:
        run = replace(run, name=name)
    pictures = run_dir / "figures"
    with atomic.writing(pictures):
        pictures.mkdir(exist_ok=True)
    body = sections(run, lambda picture: _figure(picture, pictures))
    target = run_dir / "report.html"
    page = offline_page(
        f"{title(run)} – tiltflow report", header(run), contents(body), *body.values()
    )
    atomic.write_bytes(target, page)
    return target


def _figure(picture: "Picture", folder: Path) -> Markup:
    """The <figure> of a picture, which is kept as a file, too."""
    figure, png = plate(picture)
    if png is not None:
        atomic.write_bytes(folder / f"{picture.name}.png", png)
    return figure
