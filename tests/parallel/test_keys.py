"""Keys one by one are those that are made all at once."""

import jax.random as jr
import numpy as np
import pytest

from tiltflow.parallel.keys import ROOM, keys_of


@pytest.mark.parametrize("number", [1, 5, ROOM, ROOM + 1, np.int64(70)])
def test_a_key_does_not_depend_on_how_many_there_are(number):
    key = jr.key(5)
    expected = jr.key_data(jr.split(key, int(number)))
    found = keys_of(key, number)
    np.testing.assert_array_equal([jr.key_data(one) for one in found], expected)
    assert found[0].dtype == key.dtype
    assert len({tuple(map(int, jr.key_data(one))) for one in found}) == number
