"""What is gone on with is what was begun: the same data and settings, wherever they lie."""

import pytest

from tiltflow.errors import InputError
from tiltflow.runs.resume_check import check_same_fit, moved

RUN = {
    "command": "tiltflow fit a.npy",
    "seed": 0,
    "data": {"source": "a.npy", "name": "a.npy", "fingerprint": "ab"},
    "tilt": {"steps": 10, "rate": 1e-3},
}


def changed(part, **values):
    return RUN | {part: RUN[part] | values} if part else RUN | values


def test_a_run_is_gone_on_with_by_the_same_settings_alone():
    check_same_fit(RUN, RUN, "the run")
    for now, words in (
        (changed("tilt", steps=20), "tilt.steps is 20, but the run was begun with 10"),
        (changed("", seed=1), "seed is 1, but the run was begun with 0"),
        (changed("tilt", patience=3), "tilt.patience is 3, but the run was begun with None"),
        (changed("data", fingerprint="cd"), "the data have changed since the run was begun"),
    ):
        with pytest.raises(InputError, match=words):
            check_same_fit(RUN, now, "the run")
    with pytest.raises(InputError, match="patience is None"):
        check_same_fit(changed("tilt", patience=3), RUN, "the run")


def test_the_same_data_may_lie_elsewhere():
    elsewhere = changed("data", source="b.npy", name="b.npy") | {"command": "another"}
    check_same_fit(RUN, elsewhere, "the run")
    assert moved(RUN, elsewhere)
    assert not moved(RUN, RUN | {"command": "another"})
