"""Class tilts: f, f(x, k) and p(k given x) are one another's, whatever stands around them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.learning.objective import cross_entropy
from tiltflow.tilts import ClassTilt, Frozen, MixtureTilt, MLPTilt, OfLatent, Sum
from tiltflow.tilts.classes import class_logits, classes_of, of_class

DIM, CLASSES = 4, 3


@pytest.fixture(scope="module")
def tilt():
    plain = ClassTilt(DIM, CLASSES, width=8, depth=1, key=jr.key(0))
    last = jr.normal(jr.key(1), (CLASSES, 8))
    return eqx.tree_at(lambda t: (t.layers[-1].weight, t.level), plain, (last, jnp.asarray(0.7)))


def around(tilt):
    """The same classes inside of other tilts; each with coordinates of its own size."""
    mixture = MixtureTilt(jnp.zeros(2), jnp.ones((2, DIM)), jnp.stack([jnp.eye(DIM)] * 2))
    return {
        "alone": (tilt, DIM),
        "sum": (Sum(Frozen(mixture), tilt), DIM),
        "of the latent": (Sum(OfLatent(tilt, DIM), MLPTilt(DIM + 2, width=4, key=jr.key(2))), 6),
    }


def check_bayes(tilt, dim):
    """exp f(x) is the mean of exp f(x, k), and p(k given x) their share."""
    c = jr.normal(jr.key(3), (5, dim))
    each = np.stack([jax.vmap(of_class(tilt, k))(c) for k in range(CLASSES)], axis=1)
    np.testing.assert_allclose(jax.vmap(tilt)(c), np.log(np.exp(each).mean(axis=1)), atol=1e-5)
    logits = jax.vmap(lambda c: class_logits(tilt, c))(c)
    shares = np.exp(each) / np.exp(each).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(jax.nn.softmax(logits), shares, atol=1e-5)


@pytest.mark.parametrize("where", ["alone", "sum", "of the latent"])
def test_density_and_classifier_are_one(tilt, where):
    check_bayes(*around(tilt)[where])
    assert classes_of(around(tilt)[where][0]) == CLASSES


class Summed(ClassTilt):
    """The logarithm of the sum and not of the mean."""

    def __call__(self, c, key=None):
        return jax.nn.logsumexp(self.logits(c, key))


def test_the_check_has_power(tilt):
    broken = eqx.tree_at(lambda t: t.layers, Summed(DIM, CLASSES, width=8, depth=1, key=jr.key(0)),
                         tilt.layers)  # fmt: skip
    with pytest.raises(AssertionError):
        check_bayes(broken, DIM)


def test_the_cross_entropy_is_that_of_the_labels(tilt):
    c, labels = jr.normal(jr.key(4), (6, DIM)), jnp.asarray([0, 1, 2, 0, 1, 2])
    logits = np.asarray(jax.vmap(tilt.logits)(c), np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(6), labels]).mean()
    assert float(cross_entropy(tilt, c, labels, jr.key(5))) == pytest.approx(expected, abs=1e-4)
    assert float(cross_entropy(tilt, c, None, jr.key(5))) == 0.0
    plain = MLPTilt(DIM, width=4, key=jr.key(0))
    assert float(cross_entropy(plain, c, labels, jr.key(5))) == 0.0


def test_what_has_no_such_class_is_refused(tilt):
    with pytest.raises(InputError, match="class 3; expected 0 to 2"):
        of_class(tilt, 3)
    with pytest.raises(InputError, match="tells no classes apart"):
        of_class(MLPTilt(DIM, key=jr.key(0)), 0)
    with pytest.raises(InputError, match="1 classes; expected at least 2"):
        ClassTilt(DIM, 1, key=jr.key(0))
