"""What the report shows of images: copies, paths between them, a size that is bounded."""

from pathlib import Path
from typing import Any

import numpy as np
from report_pages import report, write_evidence, write_metrics
from sklearn.datasets import load_digits

from tiltflow.report.figures import MAX_BYTES

COPIES = {
    "training": 1300, "draws": 256, "held_out": 297, "distance": 15.2, "distance_held_out": 16.5,
    "nearer": 0.0234, "nearer_by_chance": 0.0067, "nearer_p": 0.0412, "twins": 0.02,
    "twins_held_out": 0.0034,
}  # fmt: skip


def write_copies(folder: Path, **changes: Any) -> None:
    """A run on images with nearest training images and paths between images."""
    rng = np.random.default_rng(1)
    data = load_digits().data.reshape(-1, 8, 8)
    arrays = {
        "copies_draws": data[:32] + rng.normal(size=(32, 8, 8)),
        "copies_training": data[:32],
        "copies_distance": rng.gamma(20, size=256),
        "copies_distance_held_out": rng.gamma(20, size=297),
        "interpolation": data[: 8 * 16].reshape(8, 16, 8, 8),
    }
    write_evidence(folder, (8, 8), **(arrays | changes))


def test_nearest_training_images_and_paths_with_their_numbers(tmp_path, sharp):
    write_metrics(tmp_path, copies=COPIES)
    write_copies(tmp_path)
    page = report(tmp_path)
    for text in (
        "Of 256 draws 2.0% have a nearest", "held-out images: 0.3%", "2.3% are nearer",
        "0.7% by chance; so many or more with probability 0.0412", "rarer than about 1.2%",
        "are held-out images, pulled", "copies.twins_held_out", "Copies of training images",
    ):  # fmt: skip
        assert text in page.text, text
    names = {f.stem for f in (tmp_path / "figures").iterdir()}
    assert {"copies", "copies_distance", "interpolation"} <= names


def test_pairs_without_numbers_say_so_and_fewer_than_a_row_will_do(tmp_path):
    write_metrics(tmp_path)
    few = np.ones((5, 8, 8))
    write_copies(tmp_path, copies_draws=few, copies_training=few, copies_distance=np.zeros(3))
    text = report(tmp_path).text
    assert "missing from metrics.json" in text
    assert "Below them are others" not in text


def test_draws_at_the_ends_of_paths_are_said_to_be_draws(tmp_path):
    write_metrics(tmp_path)
    write_copies(tmp_path, interpolation_draws=np.ones((2, 3, 8, 8)), interpolation=np.array(["a"]))
    assert "are draws of the tilted model, as a generator" in report(tmp_path).text


def test_a_run_from_before_there_were_such_pictures(tmp_path):
    write_metrics(tmp_path)
    write_evidence(tmp_path, (8, 8))
    page = report(tmp_path)
    for absent in ("Copies", "Between images", "training image"):
        assert absent not in page.text


def test_pairs_that_do_not_fit_are_left_out(tmp_path):
    write_metrics(tmp_path)
    write_copies(tmp_path, copies_training=np.ones((7, 8, 8)), interpolation=np.ones((2, 3, 4, 4)))
    page = report(tmp_path)
    assert "interpolation has the shape" in page.text
    assert "copies_draws 32 and copies_training 7 images, which make no pairs" in page.text
    assert "Upper row of each pair" not in page.text


def test_draws_of_a_generator_are_said_to_be_without_its_noise(tmp_path):
    write_copies(tmp_path)
    write_metrics(tmp_path, copies=COPIES)
    assert "generator’s noise" not in report(tmp_path).text
    write_metrics(tmp_path, copies=COPIES, noise={"before": 0.1})
    assert "without the generator’s noise" in report(tmp_path).text


def test_noise_is_kept_below_the_size_limit(tmp_path, sharp):
    noise = np.random.default_rng(0).uniform(size=(64, 40, 40, 3))
    travel = np.random.default_rng(1).uniform(size=(8, 20, 40, 40, 3))
    np.savez(tmp_path / "evidence.npz", data=noise, travel=travel)
    report(tmp_path)
    sizes = [file.stat().st_size for file in (tmp_path / "figures").iterdir()]
    assert MAX_BYTES / 4 < max(sizes) <= MAX_BYTES
