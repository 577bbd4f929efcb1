"""The gallery: every sheet is there, crisp, on one grey scale, with its numbers."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from tiltflow.evaluation.quality import Features, quality
from tiltflow.evaluation.quality.of_model import ModelQuality
from tiltflow.report import palette
from tiltflow.report.figures import MAX_BYTES, render
from tiltflow.report.gallery import Sheet, gallery, gallery_of, lines_of

FLAT = Features(
    "pixel",
    lambda x: x.reshape(len(x), -1),
    classify=lambda x: (x[:, 0] > x[:, 1]).astype(int),
    classes=("falling", "rising"),
)


def images(seed, number=100, height=6, width=4):
    return np.random.default_rng(seed).uniform(0, 9, (number, height, width))


@pytest.fixture(scope="module")
def found():
    sets = {name: images(seed) for seed, name in enumerate(("data", "backbone", "tilted"))}
    floor = quality(images(3), sets["data"], FLAT)
    others = (quality(sets[name], sets["data"], FLAT, floor=floor) for name in list(sets)[1:])
    return ModelQuality(
        floor, *others, samples=sets, mixing={}, verdict={"status": "ok"}, seconds=1.0
    )


def test_three_sheets_with_their_numbers(found):
    picture = gallery_of(found, "Generator")
    assert "Data, Generator, Tilted model." in picture.alt
    stuck = gallery_of(replace(found, verdict={"status": "failed"}))
    assert "Tilted model: chains not converged" in stuck.alt
    assert "on features: pixel" in lines_of(found.floor, real=True)
    assert "pixel features, 100 samples against 100" in picture.caption
    png = render(picture)
    assert len(png) <= MAX_BYTES
    pixels = imread(io.BytesIO(png))
    assert pixels.shape[1] > 1.5 * pixels.shape[0]
    inked = (pixels[..., :3] < 0.9).any(axis=(0, 2))
    assert inked[: len(inked) // 4].any()
    assert inked[-len(inked) // 4 :].any()


def test_pixels_are_whole_and_on_the_scale_of_the_first_sheet():
    """White, ink, and half of it beyond the range: only two shades are there, in squares."""
    board = np.indices((4, 4)).sum(axis=0) % 2 * 10.0
    sheets = [
        Sheet("", palette.DATA, np.tile(board, (64, 1, 1))),
        Sheet("", palette.TILTED, np.tile(30 * board - 100, (64, 1, 1))),
    ]
    pixels = imread(io.BytesIO(render(gallery(sheets))))[..., :3]
    shades = np.unique((255 * pixels).round().astype(int).reshape(-1, 3), axis=0)
    assert len(shades) == 2
    left, right = np.array_split(pixels[:, :, 0], 2, axis=1)
    assert (left < 0.5).sum() == (right < 0.5).sum()


def test_colour_images_and_fewer_than_a_sheet():
    few = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3))
    picture = gallery([Sheet("Data", palette.DATA, few, ("five",))])
    pixels = imread(io.BytesIO(render(picture)))[..., :3]
    assert (np.ptp(pixels, axis=-1) > 0.3).any()
