"""Programs are compiled before they are needed, while others run.

Of a short fit compiling is the longest part, and what will be compiled is known before the weights
are: programs depend on shapes. So a second thread goes through the calls to come with a model
whose weights mean nothing. Programs made by `over_devices` are compiled there and not run; numbers
of the right shape stand for their results. What goes wrong on the way costs a compilation later,
and nothing else.
"""

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread, local
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

_thread = local()
_under_way: dict[int, Event] = {}


def is_ahead() -> bool:
    """Whether this thread only compiles."""
    return getattr(_thread, "is_ahead", False)


def compiled(program: Any, traced: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Compile an `equinox.filter_jit` for these arguments; numbers of its results' shapes.

    `traced` is the same function, without options of the compiler.
    """
    if _thread.is_over.is_set():
        raise _Over
    done = _under_way[id(program)] = Event()
    try:
        program.lower(*args, **kwargs).compile()
    finally:
        done.set()
    shapes = eqx.filter_eval_shape(traced, *args, **kwargs)
    rng = np.random.default_rng(0)

    def stand_in(x: Any) -> Any:
        if not isinstance(x, jax.ShapeDtypeStruct):
            return x
        return jnp.asarray(np.asarray(rng.standard_normal(x.shape), x.dtype))

    return jax.tree.map(stand_in, shapes)


def wait_for(program: Any) -> None:
    """If it is being compiled ahead, until it is: two threads would compile the same twice."""
    if (done := _under_way.get(id(program))) is not None:
        done.wait()


class _Over(Exception):
    """What is compiled from here on is not needed any more."""


class Ahead:
    """Calls in a thread of their own, one after the other, whose programs are only compiled.

    A context: at its end no further program is compiled, and the thread comes to its end. With
    several processes nothing is called: they have to compile in one order.
    """

    def __init__(self) -> None:
        """Nothing is called yet."""
        self._threads: list[Thread] = []
        self._is_over = Event()

    def __enter__(self) -> "Ahead":
        """The context itself."""
        return self

    def __exit__(self, *how: object) -> None:
        """Wait for the program at hand: none may be compiled while a process ends."""
        self._is_over.set()
        self.wait()

    @property
    def is_done(self) -> bool:
        """Whether something was called, and every call has come back."""
        return bool(self._threads) and not any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Until every call has come back."""
        for thread in self._threads:
            thread.join()

    def call(self, function: Callable[[], Any]) -> None:
        """Go through `function`, after those before it."""
        if jax.process_count() > 1:
            return
        before = self._threads[-1:]

        def run() -> None:
            for thread in before:
                thread.join()
            _thread.is_ahead, _thread.is_over = True, self._is_over
            # Stand-ins mean nothing, and neither does what goes wrong with them.
            with np.errstate(all="ignore"), suppress(Exception):
                function()

        self._threads.append(Thread(target=run, name="compiles ahead"))
        self._threads[-1].start()
