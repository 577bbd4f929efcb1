"""Quality as a whole: the contract of features, the floor, and what is refused."""

import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.evaluation.quality import Features, quality, values


def rows(seed, number=200, shift=0.0):
    return shift + np.random.default_rng(seed).normal(size=(number, 3))


def sign(features):
    return (features[:, 0] > 0).astype(int)


PLAIN = Features("three numbers", lambda x: x, classify=sign, classes=("left", "right"))


@pytest.fixture(scope="module")
def floor():
    return quality(rows(0), rows(1), PLAIN)


def test_samples_like_data_are_at_the_floor_and_others_are_above(floor):
    same = quality(rows(2), rows(1), PLAIN, floor=floor)
    assert same.floor is floor
    gap = abs(same.frechet.value - floor.frechet.value)
    assert gap < 4 * np.hypot(same.frechet.standard_error, floor.frechet.standard_error)
    other = quality(rows(2, shift=0.7), rows(1), PLAIN, floor=floor)
    gap = other.frechet.value - floor.frechet.value
    assert gap > 4 * np.hypot(other.frechet.standard_error, floor.frechet.standard_error)
    assert other.kernel.value > 4 * other.kernel.standard_error
    assert other.neighbours.coverage.value < same.neighbours.coverage.value


def test_shares_of_classes():
    found = quality(np.abs(rows(2)), rows(1), PLAIN).classes
    assert found is not None
    assert found.shares == (0.0, 1.0)
    assert found.smallest == ("left", 0.0)
    assert found.largest == ("right", 1.0)
    assert found.apart == pytest.approx(found.in_reference[0])
    assert found.to_dict()["share_min"] == 0.0


def test_plain_values_hold_the_floor(floor):
    block = quality(rows(2), rows(1), PLAIN, floor=rows(0)).to_dict()
    assert block["features"] == "three numbers"
    assert (block["rows"], block["reference_rows"]) == (200, 200)
    assert block["floor"]["frechet"]["value"] > 0
    assert block["floor"]["floor"] is None
    assert floor.to_dict()["classes"]["names"] == ("left", "right")


def test_the_same_seed_gives_the_same_numbers():
    one, again, other = (
        quality(rows(0), rows(1), PLAIN, seed=seed).to_dict() for seed in (3, 3, 4)
    )
    assert one == again
    assert one["frechet"]["standard_error"] != other["frechet"]["standard_error"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": rows(0, 79)}, "79 rows of samples; expected at least 80"),
        ({"reference": rows(0, 10)}, "10 rows of reference"),
        ({"floor": rows(0, 199)}, "floor is that of 199 rows against 200"),
        ({"seed": -1}, "seed is -1"),
        ({"groups": np.arange(199)}, r"shape \(199,\) for 200 rows"),
        ({"groups": np.arange(200) % 3}, "3 groups of rows"),
        ({"samples": rows(0)[:, :2]}, "2 numbers for samples and 3 for the reference"),
        ({"samples": np.where(rows(0) > 2, np.nan, rows(0))}, "not finite for"),
        ({"features": Features("flat", lambda x: x[:, 0])}, r"shape \(200,\) for 200 rows"),
        ({"features": Features("f", lambda x: x, shape=(4,))}, "expect.*4"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, words):
    given = {"samples": rows(0), "reference": rows(1), "features": PLAIN} | change
    with pytest.raises(InputError, match=words):
        quality(given.pop("samples"), given.pop("reference"), given.pop("features"), **given)


def test_chains_change_errors_and_the_kernel_distance_alone():
    """Each row four times over: chains of four draws that do not move."""
    samples = np.tile(rows(2), (4, 1))
    without, single, found = (
        quality(samples, rows(1), PLAIN, groups=groups)
        for groups in (None, np.arange(800), np.tile(np.arange(200), 4))
    )
    assert single.to_dict() == without.to_dict()
    assert found.frechet.value == pytest.approx(without.frechet.value)
    assert found.kernel.value != without.kernel.value  # pairs of one chain are left out
    for name in ("precision", "density"):
        one, other = (getattr(each.neighbours, name) for each in (found, without))
        assert one.value == other.value
        assert one.standard_error == pytest.approx(2 * other.standard_error, rel=0.01)
    assert found.classes is not None
    assert without.classes is not None
    assert found.classes.shares == without.classes.shares
    expected = 2 * np.array(without.classes.standard_errors)
    np.testing.assert_allclose(found.classes.standard_errors, expected, rtol=0.01)


def test_a_floor_on_other_features_is_refused(floor):
    with pytest.raises(InputError, match=r"'three numbers'; expected.*'others'"):
        quality(rows(0), rows(1), Features("others", lambda x: x), floor=floor)


def test_values_are_in_units_of_the_reference():
    table = rows(0) * [1.0, 10.0, 0.0]
    found = values(table)(table)
    np.testing.assert_allclose(found.std(axis=0), [1.0, 1.0, 0.0])
    images = 5 * rows(1, 400).reshape(-1, 2, 2, 3)
    assert values(images)(images).shape == (100, 12)
    assert values(images)(images).std() == pytest.approx(1.0)


def test_an_offset_of_a_column_does_not_hide_what_changed_in_another():
    far = [0.0, 0.0, 1e3]
    distances = []
    for offset in (0.0, far):
        reference, same, wide = rows(0) + offset, rows(1) + offset, rows(2) * [2, 1, 1] + offset
        of = values(reference)
        floor = quality(same, reference, of)
        distances.append(quality(wide, reference, of, floor=floor).kernel.value)
    assert distances[1] == pytest.approx(distances[0], rel=1e-3)
