"""The energy error of a step falls as its cube where the force is smooth, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiltflow.diagnostics.step_order import order_of_error

DIM, STEP = 8, 0.2


def force_of(f):
    """Of exp(f(u) - |u|^2 / 2)."""
    one = jax.value_and_grad(lambda u: f(u) - 0.5 * jnp.sum(u**2))
    both = jax.jit(jax.vmap(one))
    return lambda u: tuple(np.asarray(x) for x in both(u))


def order(f, step=STEP):
    u = np.random.default_rng(0).standard_normal((256, DIM)).astype("f4")
    return order_of_error(force_of(f), u, step, np.random.default_rng(1))


@jax.custom_jvp
def relu_with_a_smooth_gradient(x):
    return jnp.maximum(x, 0.0)


relu_with_a_smooth_gradient.defjvps(lambda t, out, x: t * jax.nn.sigmoid(4 * x))


@pytest.mark.parametrize(
    ("phi", "smooth"),
    [
        (lambda x: jnp.sqrt(0.05 + x**2), True),
        (jax.nn.silu, True),
        (jnp.abs, False),
        (jax.nn.relu, False),
        (lambda x: jax.nn.silu(40 * x) / 40, False),  # narrower than the step
        (relu_with_a_smooth_gradient, False),  # the twin: a gradient of another function
    ],
)
def test_orders(phi, smooth):
    found = order(lambda u: -2 * jnp.sum(phi(u)))
    assert found.known
    assert (found.order > 2.7) == smooth
    assert (found.order < 2.1) != smooth


def test_without_a_force_there_is_nothing_to_know():
    assert not order(lambda u: 0.0 * jnp.sum(u), step=1e-4).known
