"""Compiling ahead: what was gone through in the thread is not compiled again, and never run."""

from threading import Event

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.parallel.ahead import Ahead
from tiltflow.parallel.devices import over_devices


def program():
    """A new one, which nothing has compiled, and how often it was traced and run."""
    traced, run = [], []

    @over_devices
    def of_shape(x):
        traced.append(x.shape)
        jax.debug.callback(lambda: run.append(1))
        return jnp.sin(x) @ x

    return of_shape, traced, run


@pytest.mark.parametrize(("ahead_of", "anew"), [(5, 0), (4, 1)], ids=["alike", "another shape"])
def test_what_was_compiled_ahead_is_not_compiled_again(ahead_of, anew, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        "jax._src.compiler.backend_compile_and_load",
        _counting(compiled, "jax._src.compiler.backend_compile_and_load"),
    )
    of_shape, _, run = program()
    with Ahead() as ahead:
        ahead.call(lambda: of_shape(jnp.ones(ahead_of)))
        ahead.wait()
    jax.effects_barrier()
    assert not run  # compiled, and no more
    before = len(compiled)
    x = jnp.ones(5)
    before = len(compiled)
    assert of_shape(x) == pytest.approx(5 * np.sin(1), rel=1e-5)
    assert len(compiled) - before == anew


def test_stand_ins_have_the_shapes_of_results_and_go_on_to_the_next_program():
    of_shape, traced, _ = program()
    seen = []

    def calls():
        y = of_shape(jnp.ones(3))
        seen.append((y.shape, y.dtype))
        of_shape(jnp.stack([y, y]))

    with Ahead() as ahead:
        ahead.call(calls)
        ahead.wait()
    assert seen == [((), jnp.float32)]
    assert (3,) in traced
    assert (2,) in traced


def test_what_fails_ahead_harms_nothing_and_calls_keep_their_order():
    order = []
    with Ahead() as ahead:
        assert not ahead.is_done  # nothing was called
        ahead.call(lambda: order.append(1 / 0))
        ahead.call(lambda: order.append("second"))
        ahead.wait()
        assert ahead.is_done
    assert order == ["second"]


def test_outside_of_the_thread_programs_run():
    of_shape, _, run = program()
    with Ahead() as ahead:
        ahead.call(lambda: None)
        of_shape(jnp.ones(2)).block_until_ready()
    jax.effects_barrier()
    assert run == [1]


def test_at_the_end_no_further_program_is_compiled():
    of_shape, traced, _ = program()
    begun, ended = Event(), Event()

    def calls():
        begun.set()
        ended.wait(10)
        of_shape(jnp.ones(7))

    with Ahead() as ahead:
        ahead.call(calls)
        begun.wait(10)
        ahead._is_over.set()
        ended.set()
    assert (7,) not in traced


def _counting(into, name):
    module, _, function = name.rpartition(".")
    import importlib

    own = getattr(importlib.import_module(module), function)

    def counted(*args, **kwargs):
        into.append(1)
        return own(*args, **kwargs)

    return counted
