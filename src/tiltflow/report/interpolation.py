"""The picture of images between images: one path of the latent space in a row."""

import numpy as np

from .figures import Picture
from .images import ROWS, TIMES, grey_range, mosaic, sheet_picture
from .run_folder import Run

_ENDS = {
    "interpolation": (
        "From one held-out image to another",
        "The left and the right end of each row are held-out images, pulled into the latent space.",
    ),
    "interpolation_draws": (
        "From one draw to another",
        "The left and the right end of each row are draws of the tilted model, as a generator has "
        "no one latent position of an image.",
    ),
}


def interpolation_pictures(run: Run) -> list[Picture]:
    """Pairs of ends as rows, and the path between them from left to right."""
    pictures = []
    for name, (title, words) in _ENDS.items():
        if name not in run.evidence:
            continue
        paths = run.evidence[name][:ROWS]
        shown = np.unique(np.linspace(0, paths.shape[1] - 1, TIMES).round().astype(int))
        paths = paths[:, shown]
        pairs, times = paths.shape[:2]
        low, high = grey_range(run)
        sheet = mosaic(paths.reshape(-1, *paths.shape[2:]), times, low, high, gaps=(0.4, 0.12))
        caption = (
            f"{words} Between them the path turns evenly in direction and in norm, so that it is "
            "as far out as draws are. All of it should look like data: a stretch that does not is "
            "noise that the backbone turns into no observation, which the tilt is there to forbid. "
            "The path itself is the backbone’s; the tilt has no part in it."
        )
        alt = f"{pairs} rows of {times} images, each from one image to another."
        pictures.append(sheet_picture(name, title, caption, alt, sheet, full=True))
    return pictures
