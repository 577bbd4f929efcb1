"""Draws beside their nearest training images, and the numbers that say whether they are copies."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import palette
from .figures import Picture, axes_with, key, outline
from .images import grey_range, mosaic, sheet_picture
from .numbers import finite, readable
from .run_folder import Run

COLUMNS = 16
"""Pairs in a row."""
TIGHT, WIDE = 0.12, 0.7
"""White space between an image and the one below it: of a pair, and of two, in sides of one."""
BINS = 42
_KINDS = {
    "copies_distance_held_out": ("held-out images", palette.DATA),
    "copies_distance": ("draws", palette.TILTED),
}


def copies_pictures(run: Run) -> list[Picture]:
    """Pairs of images, and the distances of all draws that were looked at."""
    return [*_pairs(run), *_distances(run)]


def _pairs(run: Run) -> list[Picture]:
    draws, training = (run.evidence.get(f"copies_{name}") for name in ("draws", "training"))
    if draws is None or training is None:
        return []
    low, high = grey_range(run)
    columns, starts = min(COLUMNS, len(draws)), range(0, len(draws), COLUMNS)
    sheet = _stacked(
        [
            mosaic(images[start : start + COLUMNS], columns, low, high, gaps=(0.0, TIGHT))
            for start in starts
            for images in (draws, training)
        ]
    )
    others = " Below them are others, from like to unlike." if len(starts) > 1 else ""
    caption = (
        f"Upper row of each pair: draws of the tilted model. Lower row: the training image nearest "
        f"to each. The first pair of rows holds the draws most like copies: near to one training "
        f"image and far from the next.{others} {_words(run)}"
    )
    alt = f"{len(draws)} draws, each with its nearest training image below it."
    title = "Draws above, nearest training images below"
    return [sheet_picture("copies", title, caption, alt, sheet, full=True)]


def _distances(run: Run) -> list[Picture]:
    found = {name: run.evidence[name] for name in _KINDS if name in run.evidence}
    if len(found) < len(_KINDS):
        return []

    def draw(figure: Figure) -> None:
        axes = axes_with(figure, "distance from the nearest training image, data units")
        edges = np.linspace(0, max(np.nanmax(values) for values in found.values()) or 1.0, BINS + 1)
        for name, values in found.items():
            real = name == "copies_distance_held_out"
            weight = {"alpha": 0.22, "linewidth": 0} if real else {"linewidth": 1.7}
            outline(axes, values, edges, fill=real, color=_KINDS[name][1], **weight)
        key(axes, list(_KINDS.values()))

    caption = (
        "Copies would be a bump at 0 or near it, where no held-out image is. All of orange left of "
        "grey means that draws are smoother or plainer than images, which makes them near to "
        "everything; to the right of it, that they are noisier, or unlike the data."
    )
    middles = ", ".join(
        f"{_KINDS[name][0]} {readable(float(np.nanmedian(values)))}"
        for name, values in found.items()
    )
    alt = f"Histograms of distances from the nearest training image; medians: {middles}."
    return [
        Picture("copies_distance", "How near to the training data", caption, alt, draw, "beside")
    ]


def _words(run: Run) -> str:
    """What the numbers say, or that there are none."""
    names = ("draws", "nearer", "nearer_by_chance", "nearer_p", "twins", "twins_held_out")
    found = [finite(run.metric("copies", name)) for name in names]
    if any(value is None for value in found):
        return "Numbers that say whether these are copies are missing from metrics.json."
    draws, nearer, by_chance, p, twins, held_out = (v for v in found if v is not None)
    plain = ""
    if run.metric("noise") is not None:  # the block of a generator
        plain = (
            " Draws are without the generator’s noise and held-out images as they are, which alone "
            "can bring more of them near than chance does."
        )
    return (
        f"Of {draws:.0f} draws {twins:.1%} have a nearest training image less than a third as far "
        f"as the second nearest, as a copy would (held-out images: {held_out:.1%}), and "
        f"{nearer:.1%} are nearer to the training images than the nearest 1% of held-out images "
        f"({by_chance:.1%} by chance; so many or more with probability {readable(p)}).{plain} "
        f"Distances are Euclidean: a shifted or mirrored copy is not seen, nor are copies rarer "
        f"than about {min(1.0, 3 / max(draws, 1.0)):.1%} of draws."
    )


def _stacked(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Rows of images in pairs, one below the other."""
    parts: list[NDArray[np.float64]] = []
    for number, row in enumerate(rows):
        if number:
            gap = max(1, round(len(row) * (TIGHT if number % 2 else WIDE)))
            parts.append(np.ones((gap, *row.shape[1:])))
        parts.append(row)
    return np.concatenate(parts)
