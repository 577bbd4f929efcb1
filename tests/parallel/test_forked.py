"""A forked process says that it cannot compute, in place of waiting for ever."""

import os
import sys

import pytest

from tiltflow.errors import InputError
from tiltflow.parallel import forked


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("begun", [True, False])
def test_a_fork_of_a_process_that_computes_refuses(begun, monkeypatch):
    class Bridge:
        """What JAX says of itself."""

        @staticmethod
        def backends_are_initialized():
            return begun

    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", Bridge)
    forked._before()
    forked._in_child()
    try:
        if begun:
            with pytest.raises(InputError, match=r"was forked .* use joblib's loky"):
                forked.refuse_forked()
        else:
            forked.refuse_forked()
    finally:
        forked._state.update(begun=False, forked=False)
