"""What is looked at comes from everywhere, first and last among them."""

import numpy as np
import pytest

from tiltflow.evaluation.subsample import evenly


@pytest.mark.parametrize(
    ("some", "of", "indices"), [(3, 5, [0, 2, 4]), (1, 5, [0]), (0, 0, []), (4, 2, [0, 0, 1, 1])]
)
def test_first_and_last_and_evenly_between(some, of, indices):
    np.testing.assert_array_equal(evenly(some, of), indices)
