"""Pictures of image data: sheets of thumbnails, and chains as rows of changing images."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import palette
from .figures import DPI, Picture
from .run_folder import Run

GRID = 8
"""Thumbnails along each side of a sheet."""
ROWS, TIMES = 8, 16
"""Chains, or pairs, and moments in pictures of travelling chains and of paths, at most."""
THUMB = 40
"""Larger images are averaged down to at most this many pixels a side."""

INK_ON_PAPER = LinearSegmentedColormap.from_list("ink on paper", [palette.PAPER, palette.INK])

_SHEETS = {
    "data": (
        "Data",
        "What the model has to imitate.",
    ),
    "backbone": (
        "Backbone",
        "Noise pushed through the backbone, before any tilting: where learning starts.",
    ),
    "tilted": (
        "Tilted model",
        "Draws of p by chains in the backbone’s latent space. Look for details that got repaired, "
        "and for kinds of images that went missing.",
    ),
}


def sample_plots(run: Run) -> list[Picture]:
    """One sheet of thumbnails for each kind of samples that is there, all on one grey scale."""
    low, high = grey_range(run)
    pictures = []
    for name, (title, caption) in _SHEETS.items():
        if name not in run.evidence:
            continue
        images = run.evidence[name][: GRID * GRID]
        sheet = mosaic(images, GRID, low, high, gaps=(0.25, 0.25))
        alt = f"{title}: a sheet of {len(images)} images, {GRID} in a row."
        pictures.append(sheet_picture(f"samples_{name}", title, caption, alt, sheet))
    return pictures


def travelling_chains(run: Run) -> list[Picture]:
    """Chains as rows, moments as columns, evenly spread over the draws."""
    if "travel" not in run.evidence:
        return []
    travel = run.evidence["travel"][:ROWS]
    moments = np.unique(np.linspace(0, travel.shape[1] - 1, TIMES).round().astype(int))
    travel = travel[:, moments]
    chains, times = travel.shape[:2]
    low, high = grey_range(run)
    sheet = mosaic(travel.reshape(-1, *travel.shape[2:]), times, low, high, gaps=(0.4, 0.12))
    caption = (
        "Each row is one chain and time runs to the right. A chain that mixes turns into one "
        "kind of image after another; a row that stays the same is a chain that is stuck."
    )
    alt = f"{chains} chains as rows, {times} moments of each from left to right, as images."
    return [sheet_picture("travel", f"{chains} chains over time", caption, alt, sheet, full=True)]


def sheet_picture(
    name: str, title: str, caption: str, alt: str, sheet: NDArray[np.float64], *, full: bool = False
) -> Picture:
    """A mosaic without any axes, each of its pixels a whole number of pixels of the file."""
    height, width, _ = sheet.shape
    scale = max(1, round((1800 if full else 1000) / width))
    size = (width * scale / DPI, height * scale / DPI)

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(sheet, aspect="auto")  # crisp unless it has to be made smaller

    return Picture(name, title, caption, alt, draw, "full" if full else "third", size)


def grey_range(run: Run) -> tuple[float, float]:
    """The values drawn as white and as ink: the range of the data, else of what there is."""
    shown = (*_SHEETS, "travel", "copies_training", "interpolation", "interpolation_draws")
    return range_of(next(run.evidence[name] for name in shown if name in run.evidence))


def range_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """The values drawn as white and as ink where these are shown; never equal."""
    low, high = np.nanpercentile(values, [0.1, 99.9])
    if low == high:  # nearly all pixels alike
        low, high = np.nanmin(values), np.nanmax(values)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def mosaic(
    images: NDArray[np.float64], columns: int, low: float, high: float, gaps: tuple[float, float]
) -> NDArray[np.float64]:
    """Images [n, H, W] or [n, H, W, C] on white, `columns` in a row: RGB in [0, 1].

    `gaps` are the white space between rows and between columns, in sides of an image.
    """
    shades = np.nan_to_num((shrink(images) - low) / (high - low)).clip(0, 1)
    if shades.ndim == 4 and shades.shape[-1] != 3:
        shades = shades.mean(-1)
    rgb = shades if shades.ndim == 4 else INK_ON_PAPER(shades)[..., :3]
    count, height, width, _ = rgb.shape
    rows, side = -(-count // columns), max(height, width)
    below, beside = (max(1, round(gap * side)) for gap in gaps)
    sheet = np.ones((rows * (height + below) - below, columns * (width + beside) - beside, 3))
    for i, tile in enumerate(rgb):
        top, left = (i // columns) * (height + below), (i % columns) * (width + beside)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def shrink(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average blocks of pixels until no side of [n, H, W, ...] exceeds THUMB."""
    height, width = images.shape[1:3]
    block = -(-max(height, width) // THUMB)
    if block == 1:
        return images
    rows, columns = max(1, height // block), max(1, width // block)
    tall, wide = min(block, height), min(block, width)
    cut = images[:, : rows * tall, : columns * wide]
    blocks = cut.reshape(len(images), rows, tall, columns, wide, *images.shape[3:])
    return blocks.mean(axis=(2, 4))
