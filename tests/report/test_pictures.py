"""Sheets of images, labels and numbers as reports write them."""

import numpy as np
import pytest

from tiltflow.report import numbers
from tiltflow.report.figures import apart
from tiltflow.report.images import mosaic, shrink


def test_mosaic_places_every_image():
    images = np.arange(1.0, 7.0)[:, None, None] * np.ones((6, 8, 8))
    sheet = mosaic(images, 3, 0.0, 6.0, gaps=(0.25, 0.125))
    assert sheet.shape == (18, 26, 3)
    corners = sheet[::10, ::9, 0][:2]
    assert (np.diff(corners.ravel()) < 0).all()  # more is darker, in reading order
    assert (sheet[8:10] == 1).all()
    assert (sheet[:, [8, 17]] == 1).all()
    assert (sheet[:8, [0, 7, 9, 16, 18, 25]] < 1).all()


def test_shrink_averages_blocks():
    image = np.zeros((1, 80, 80))
    image[0, 0, 0] = 4.0
    assert shrink(image).shape == (1, 40, 40)
    assert shrink(image)[0, 0, 0] == 1.0


def test_labels_are_pushed_apart_and_stay_inside():
    placed = apart([0.5, 0.5, 0.98, 1.0], gap=0.1)
    assert np.diff(placed).min() > 0.1 - 1e-9
    assert max(placed) <= 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.005712, "1.006"), (1210.43, "1,210"), (0.0003, "0.0003"), (3e-7, "3.000e−07"), (-2, "−2"),
     (True, "yes"), (None, "–"), (float("-inf"), "−∞"), (12345, "12,345"), (0.0, "0"),
     (9.99996, "10")],
)  # fmt: skip
def test_readable_numbers(value, text):
    assert numbers.readable(value) == text


def test_nats_and_seconds():
    assert numbers.nats(-93.617) == "−93.62"
    assert numbers.signed_nats(4.3122) == "+4.31"
    assert numbers.interval(1.0, None) is None
    assert numbers.nats(1894.26) == "1,894.3"
    assert [numbers.seconds(s) for s in (4.2, 41, 245, 7800)] == [
        "4.2 s", "41 s", "4 min 05 s", "2 h 10 min"
    ]  # fmt: skip
