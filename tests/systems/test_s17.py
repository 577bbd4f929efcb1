"""What short runs learn, in closed form, and by the learner."""

import numpy as np
import pytest


@pytest.mark.parametrize("k", [10, 50])
def test_what_is_predicted_has_the_data_s_variances_after_k(recipe, k):
    s17 = recipe("s17")
    precision = s17.predicted(k, s17.VARIANCES)
    assert np.allclose(s17.variance_after(k, precision), s17.VARIANCES, rtol=1e-6)
    diffused = 1 + 2 * k * s17.STEP**2 / 2
    assert np.array_equal(precision < 0, diffused < s17.VARIANCES)
    # What equilibrium would have is something else, but where k is long enough.
    off = s17.variance_after(k, 1 / s17.VARIANCES) / s17.VARIANCES - 1
    assert abs(off[-1]) > 0.5
    assert np.abs(s17.variance_after(2 * k, precision) / s17.VARIANCES - 1)[-1] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("start", ["noise", "data"])
def test_the_learner_finds_it(recipe, start):
    """The twin: chains from data (contrastive divergence) are not right after k from noise."""
    found = recipe("s17").exact(10, 600, 1_000, 0, start)
    assert (found["at"] < 0.1) == (start == "noise")
    assert (found["apart"] < 0.1) == (start == "noise")
    assert found["failed"] or start == "data"
