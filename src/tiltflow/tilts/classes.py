"""Tilts that classify: K logits F, and p(x, k) ∝ exp(F_k(x)) q(x) of rows and classes together.

    f(x) = log (1/K sum_k exp F_k(x)),    f(x, k) = F_k(x),    p(k | x) = softmax F(x)

(Grathwohl et al. 2020, arXiv 1912.03263, eqs. 4 to 6, there without q). So one network is a density
of rows, one of the rows of each class, which is sampled as any other, and a classifier. The
likelihood of rows and classes together is that of the rows and, less a cross-entropy, that of
classes given rows (`learning/objective.py`).

All functions here take any tilt that has a `ClassTilt` somewhere in it, in a sum or of a latent
variable: what else is in it counts for all classes alike.
"""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tiltflow.errors import InputError
from tiltflow.tilts.base import Tilt
from tiltflow.tilts.mlp import through, zero_layers

T = TypeVar("T", bound=Tilt)


class ClassTilt(Tilt):
    """f of coordinates `[dim]` from a perceptron with a logit for each class; SiLU between layers.

    The last layer starts at zero: f = 0, and all classes are as probable.
    """

    layers: tuple[eqx.nn.Linear, ...]
    dropout: eqx.nn.Dropout
    level: Float[Array, ""]

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ) -> None:
        """`depth` hidden layers of `width` units; `dropout` acts where a training key is given.

        Raises:
            InputError: fewer than two classes.
        """
        if classes < 2:
            raise InputError(f"{classes} classes; expected at least 2, or the tilt 'mlp'")
        self.layers = zero_layers(dim, width, depth, classes, key=key)
        self.dropout = eqx.nn.Dropout(dropout)
        self.level = jnp.zeros(())

    @property
    def classes(self) -> int:
        """How many there are."""
        return self.layers[-1].weight.shape[0]

    def logits(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, " K"]:
        """F, less the level."""
        value = through(self.layers, self.dropout, c, key)
        return value - jax.lax.stop_gradient(self.level)

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """f(c), with dropout if there is a key."""
        return jax.nn.logsumexp(self.logits(c, key)) - jnp.log(self.classes)


class OfClass(Tilt):
    """f(c, k) of one class k."""

    tilt: ClassTilt
    label: Int[Array, ""]
    level: Float[Array, ""]

    def __init__(self, tilt: ClassTilt, label: int | Int[Array, ""]) -> None:
        """That logit of `tilt`."""
        self.tilt, self.label, self.level = tilt, jnp.asarray(label), jnp.zeros(())

    def __call__(
        self, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """F_k(c), with dropout if there is a key."""
        return self.tilt.logits(c, key)[self.label] - jax.lax.stop_gradient(self.level)


def classes_of(tilt: Any) -> int:
    """How many classes a tilt tells apart; 0 if it tells none."""
    leaves = jax.tree.leaves(tilt, is_leaf=_is_class_tilt)
    return max((leaf.classes for leaf in leaves if _is_class_tilt(leaf)), default=0)


def of_class(tilt: T, label: int | Int[Array, ""]) -> T:
    """The tilt of one class: f(c, k) in the place of f(c).

    Raises:
        InputError: the tilt has no classes, or not this one.
    """
    classes = classes_of(tilt)
    if not classes:
        raise InputError("the tilt tells no classes apart; expected a tilts.ClassTilt in it")
    if isinstance(label, int) and not 0 <= label < classes:
        raise InputError(f"class {label}; expected 0 to {classes - 1}")
    return jax.tree.map(
        lambda node: OfClass(node, label) if _is_class_tilt(node) else node,
        tilt,
        is_leaf=_is_class_tilt,
    )


def class_logits(
    tilt: Tilt, c: Float[Array, " dim"], key: PRNGKeyArray | None = None
) -> Float[Array, " K"]:
    """f(c, k) of every class; `jax.nn.log_softmax` makes it log p(k | c).

    The network is evaluated once: it does not depend on the class. InputError as `of_class`.
    """
    every = jnp.arange(max(classes_of(tilt), 1))
    return jax.vmap(lambda label: of_class(tilt, label)(c, key))(every)


def _is_class_tilt(node: Any) -> bool:
    return isinstance(node, ClassTilt)
