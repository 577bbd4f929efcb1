"""Random keys, one by one, whatever their number by few programs."""

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

ROOM = 32  # keys that a program makes at least


def keys_of(key: PRNGKeyArray, number: int) -> list[PRNGKeyArray]:
    """The keys of `jax.random.split(key, number)`.

    That is another program for each number, which takes longer to compile than to run by three
    orders of magnitude; here the numbers are powers of two, as a key does not depend on how many
    there are.
    """
    room = max(ROOM, 1 << (int(number) - 1).bit_length())
    data = np.asarray(jr.key_data(jr.split(key, room)))
    return [jr.wrap_key_data(one) for one in data[:number]]
