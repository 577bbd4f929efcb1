"""The contract that every tilt goes through, and that broken ones must not pass.

A case makes a tilt of coordinates `[DIM]`. Learners rely on all of it: a scalar, finite with its
gradient wherever a chain may go, the same value alone and in a batch, nothing random without a
key, and a level that shifts f and has no gradient. What is learned starts at f = 0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.tilts import (
    ClassTilt,
    ConvSizes,
    ConvTilt,
    Frozen,
    MixtureTilt,
    MLPTilt,
    NetworkTilt,
    OfData,
    OfLatent,
    Sum,
    Tilt,
)
from tiltflow.tilts.base import freeze

DIM = 16


def mlp(dim=DIM):
    return MLPTilt(dim, width=8, dropout=0.5, key=jr.key(0))


def conv():
    return ConvTilt((4, 4), ConvSizes(channels=2, width=8, dropout=0.5), key=jr.key(1))


def network():
    return NetworkTilt(eqx.nn.MLP(DIM, "scalar", 8, 1, activation=jax.nn.silu, key=jr.key(2)))


def mixture():
    return MixtureTilt.standard(3, DIM)


LEARNED = {
    "mlp": mlp,
    "classes": lambda: ClassTilt(DIM, 3, width=8, dropout=0.5, key=jr.key(4)),
    "conv": conv,
    "network": network,
    "mixture": mixture,
    "of the latent part": lambda: OfLatent(mlp(6), 6),
    "of the data part": lambda: OfData(mlp(10), 6),
    "sum": lambda: Sum(mlp(), network()),
    "sum with a part that is kept": lambda: Sum(Frozen(stirred(mixture())), mlp()),
}
every = pytest.mark.parametrize("kind", LEARNED)


def stirred(tilt, size=0.3):
    """The same tilt with noise on all that is learned: f is no longer 0."""
    learned, rest = freeze(tilt)
    leaves, tree = jax.tree.flatten(learned)
    keys = jr.split(jr.key(7), len(leaves))
    noisy = [x + size * jr.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, noisy), rest)


def points(number=6, scale=1.0):
    return scale * jr.normal(jr.key(3), (number, DIM))


@eqx.filter_jit
def values(tilt, c, key=None):
    return jax.vmap(lambda one: tilt(one, key))(c)


def check_is_zero_at_the_start(tilt):
    np.testing.assert_allclose(values(tilt, points()), 0.0, atol=1e-4)


def check_is_one_scalar_alone_and_in_a_batch(tilt):
    c = points()
    batch = values(tilt, c)
    assert batch.shape == (len(c),)
    assert tilt(c[0]).shape == ()
    np.testing.assert_allclose(tilt(c[0]), batch[0], rtol=1e-4, atol=1e-4)


def check_is_finite_far_out(tilt):
    c = jnp.concatenate([points(), points(scale=100.0), jnp.zeros((1, DIM))])
    f, gradient = eqx.filter_jit(jax.vmap(jax.value_and_grad(lambda one: tilt(one))))(c)
    assert np.isfinite(f).all()
    assert np.isfinite(gradient).all()


def check_is_not_random_without_a_key(tilt):
    np.testing.assert_array_equal(values(tilt, points()), values(tilt, points()))


def check_level_shifts_and_is_not_learned(tilt):
    c = points()
    raised = eqx.tree_at(lambda t: t.level, tilt, tilt.level + 2.0)
    np.testing.assert_allclose(values(tilt, c) - values(raised, c), 2.0, atol=1e-4)
    of_level = eqx.filter_grad(lambda t: jnp.sum(values(t, c)))(raised).level
    assert of_level is None or float(of_level) == 0.0
    learned, _ = freeze(tilt)
    assert learned.level is None


CHECKS = [
    check_is_one_scalar_alone_and_in_a_batch,
    check_is_finite_far_out,
    check_is_not_random_without_a_key,
    check_level_shifts_and_is_not_learned,
]


@every
def test_learning_starts_at_zero(kind):
    tilt = LEARNED[kind]()
    if "kept" in kind:  # f is that of the kept part
        tilt = tilt.parts[1]
    check_is_zero_at_the_start(tilt)
    with pytest.raises(AssertionError):  # power
        check_is_zero_at_the_start(stirred(tilt))


@every
@pytest.mark.parametrize("check", CHECKS)
def test_contract(kind, check):
    check(stirred(LEARNED[kind]()))


class Broken(Tilt):
    """A quadratic that can be broken in one way."""

    weight: jax.Array
    level: jax.Array
    how: str = eqx.field(static=True)

    def __init__(self, how):
        self.weight, self.level, self.how = jnp.full(DIM, 0.1), jnp.zeros(()), how

    def __call__(self, c, key=None):
        value = self.weight @ c**2
        if self.how == "a vector":
            value = value[None]
        if self.how == "a kink without a gradient":
            value = value + jnp.sqrt(jnp.sum(c**2))
        level = (
            self.level if self.how == "the level is learned" else jax.lax.stop_gradient(self.level)
        )
        return value + level if self.how == "the level is added" else value - level


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("a vector", check_is_one_scalar_alone_and_in_a_batch),
        ("a kink without a gradient", check_is_finite_far_out),
        ("the level is learned", check_level_shifts_and_is_not_learned),
        ("the level is added", check_level_shifts_and_is_not_learned),
    ],
)
def test_what_is_broken_fails(how, check):
    """Power: the same quadratic passes where nothing is wrong with it."""
    check(Broken("nothing"))
    with pytest.raises(AssertionError):
        check(Broken(how))


def test_noise_without_a_key_fails():
    class Noisy(Broken):
        def __call__(self, c, key=None):
            noise = jax.pure_callback(
                lambda: np.float32(np.random.default_rng().normal()), jnp.zeros(())
            )
            return super().__call__(c, key) + noise

    with pytest.raises(AssertionError):
        check_is_not_random_without_a_key(Noisy("nothing"))
