"""Data, generator, tilted model: three sheets of images side by side, their numbers under each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tiltflow.evaluation.quality import Quality
from tiltflow.evaluation.quality.of_model import ModelQuality
from tiltflow.runs import atomic

from . import palette
from .figures import DPI, Picture, render
from .images import mosaic, range_of

SIDE = 8
"""Images along each side of a sheet."""
WIDE = 500
"""Pixels of the file that a sheet is about wide; these and the following at full sharpness."""
MARGIN, BETWEEN = 30, 70
"""Pixels around everything, and between sheets."""
TITLE, LINE = 70, 44
"""Pixels for a sheet's title, and for each line under it."""
MAX_BYTES = 700_000
"""Of the file: enough for three sheets of Fashion-MNIST at full sharpness."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """One of the sheets.

    Attributes:
        title: above it.
        colour: of the title.
        images: `[n, height, width]` or `[n, height, width, channels]`; the first 64 are shown.
        lines: of text under it.
    """

    title: str
    colour: str
    images: np.ndarray
    lines: tuple[str, ...] = ()


def gallery(sheets: Sequence[Sheet], caption: str = "") -> Picture:
    """Sheets side by side, all on the grey scale of the first, which should be the data.

    Each pixel of an image is a whole number of pixels of the file.
    """
    low, high = range_of(np.asarray(sheets[0].images, np.float64))
    mosaics = [
        mosaic(np.asarray(sheet.images[: SIDE**2], np.float64), SIDE, low, high, gaps=(0.1, 0.1))
        for sheet in sheets
    ]
    scale = max(1, round(WIDE / max(m.shape[1] for m in mosaics)))
    sizes = [(scale * m.shape[1], scale * m.shape[0]) for m in mosaics]
    lefts = [MARGIN + sum(w + BETWEEN for w, _ in sizes[:i]) for i in range(len(sizes))]
    below = LINE * max(len(sheet.lines) for sheet in sheets)
    width = lefts[-1] + sizes[-1][0] + MARGIN
    height = 2 * MARGIN + TITLE + max(h for _, h in sizes) + below

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")
        for sheet, pixels, left, (wide, tall) in zip(sheets, mosaics, lefts, sizes, strict=True):
            bottom = height - MARGIN - TITLE - tall
            axes = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
            axes.set_axis_off()
            axes.imshow(pixels, aspect="auto")
            figure.text(
                left / width, (bottom + tall + 26) / height, sheet.title,
                color=sheet.colour, fontsize=13, fontweight="bold",
            )  # fmt: skip
            for j, line in enumerate(sheet.lines):
                figure.text(
                    left / width, (bottom - LINE * (j + 1)) / height, line,
                    color=palette.MUTED if j else palette.INK, fontsize=9.5,
                )  # fmt: skip

    names = ", ".join(sheet.title for sheet in sheets)
    return Picture(
        name="gallery",
        title="Gallery",
        caption=caption,
        alt=f"{len(sheets)} sheets of images side by side: {names}.",
        draw=draw,
        span="full",
        size=(width / DPI, height / DPI),
    )


def write_gallery(path: Path, picture: Picture) -> None:
    """Write a gallery as a PNG; raises InputError if the disk refuses."""
    atomic.write_bytes(path, render(picture, MAX_BYTES))


def gallery_of(found: ModelQuality, backbone: str = "Backbone") -> Picture:
    """The gallery of a model whose samples have been compared with data."""
    sheets = [
        Sheet("Data", palette.DATA, found.samples["data"], lines_of(found.floor, real=True)),
        Sheet(backbone, palette.BACKBONE, found.samples["backbone"], lines_of(found.backbone)),
        Sheet(
            "Tilted model" + ("" if found.converged else ": chains not converged"),
            palette.TILTED,
            found.samples["tilted"],
            lines_of(found.tilted),
        ),
    ]
    caption = (
        f"Frechet distances on {found.tilted.features} features, {found.tilted.rows:,} samples "
        f"against {found.tilted.reference_rows:,} held-out rows. Under the data stands the floor: "
        f"other real rows in the samples’ place."
    )
    return gallery(sheets, caption)


def lines_of(found: Quality, *, real: bool = False) -> tuple[str, ...]:
    """The numbers under a sheet; under real data they are the floor."""
    distance, four = found.frechet, found.neighbours
    head = "Real against real: Frechet" if real else "Frechet distance"
    lines = [
        f"{head} {distance.value:.2f} ± {distance.standard_error:.2f}",
        f"precision {four.precision.value:.2f}, recall {four.recall.value:.2f}",
        f"density {four.density.value:.2f}, coverage {four.coverage.value:.2f}",
    ]
    if found.classes is not None:
        (rare, least), (common, most) = found.classes.smallest, found.classes.largest
        lines.append(f"classes: {rare} {least:.1%} to {common} {most:.1%}")
    if real:
        lines.append(f"on features: {found.features}")
    return tuple(lines)
