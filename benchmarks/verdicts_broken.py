"""Fits broken at the data's end, at the backbone and at the tilt, for `verdicts.py`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from verdicts_fits import Case, Outcome, bent, correlated, fitted, small, waved, waves

from tiltflow.backbones import CouplingFlow, Kept, fit_units
from tiltflow.backbones.units.bijections import Units
from tiltflow.data import Dataset, Splits
from tiltflow.fitting.settings import Settings
from tiltflow.tilts import Frozen, Tilt


def standardised() -> Settings:
    settings = small()
    return replace(settings, model=replace(settings.model, units="standardise"))


# The data's own end ---------------------------------------------------------------------------


def copies() -> np.ndarray:
    return np.repeat(bent(1_000), 2, axis=0)


def declared_continuous() -> Dataset:
    return Dataset("counts", np.round(2 * bent()).astype(np.float32), integers=False)


def cauchy() -> np.ndarray:
    return np.concatenate(
        [bent()[:, :2], np.random.default_rng(1).standard_cauchy((2_000, 1))], axis=1
    )


def with_a_far_row() -> Outcome:
    x = bent()
    x[-1] = [40.0, -55.0, 70.0]
    return fitted(x, standardised(), parts=in_order(len(x)))


def dependent() -> np.ndarray:
    x = bent()
    x[:, 2] = x[:, 0] + 0.5 * x[:, 1]
    return x


def with_zeros() -> np.ndarray:
    """An amount that is nothing in a third of the rows."""
    x = bent()
    x[:, 2] = np.where(np.random.default_rng(2).random(len(x)) < 0.33, 0.0, np.exp(x[:, 2]))
    return x


DATA = [
    Case("copies", "data", "each row stands there twice", lambda: fitted(copies)),
    Case("declared", "data", "counts declared continuous", lambda: fitted(declared_continuous)),
    Case("cauchy", "data", "a column without variance", lambda: fitted(cauchy, standardised())),
    Case("far row", "data", "one held-out row 30 deviations out", with_a_far_row),
    Case("dependent", "data", "a column is the sum of others", lambda: fitted(dependent)),
    Case("zeros", "data", "a third of a column is exactly 0", lambda: fitted(with_zeros)),
]

# The backbone ---------------------------------------------------------------------------------


class Wrong(CouplingFlow):
    """A flow of the user's own with a fault, by its number: one program serves them all.

    0: none; 1: what comes back is a little less than what went; 2: the log-determinant forgets half
    of what the couplings do; 3: a dimension is led nowhere, and brought back all the same.
    """

    fault: jax.Array

    def __init__(self, fault: int, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.fault = jnp.asarray(fault)

    @property
    def _scales(self) -> jax.Array:
        return jnp.where(self.fault == 3, jnp.asarray([1.0, 1.0, 1e-6]), 1.0)

    def coordinates(self, u: Any) -> Any:
        return super().coordinates(u) * self._scales

    def _inverse(self, y: Any, key: Any) -> Any:
        u, log_det = super()._inverse(y / self._scales, key)
        log_det = log_det - jnp.sum(jnp.log(self._scales))
        shrunk = jnp.where(self.fault == 1, 0.9, 1.0)
        return shrunk * u, jnp.where(self.fault == 2, 0.5, 1.0) * log_det


def made(fault: int) -> Callable[..., CouplingFlow]:
    """A flow of the user's own over fitted units, which `fit` learns."""
    return lambda units, key: Wrong(fault, units, num_blocks=1, width=32, key=key)


def flow_over(x: np.ndarray, fault: int = 0) -> CouplingFlow:
    """A flow that was never learned, over units fitted to rows."""
    units = fit_units("standardise", x.astype(np.float32), integers=False)
    return made(fault)(units, key=jr.key(0))


def untrained() -> Outcome:
    """Random weights, in the last layers too."""
    flow = flow_over(bent())
    leaves, structure = jax.tree.flatten(flow.blocks)
    keys = jr.split(jr.key(1), len(leaves))
    shaken = [
        x + 0.5 * jr.normal(k, x.shape) if eqx.is_inexact_array(x) else x
        for x, k in zip(leaves, keys, strict=True)
    ]
    flow = eqx.tree_at(lambda f: f.blocks, flow, jax.tree.unflatten(structure, shaken))
    return fitted(bent(), few_steps(), backbone=Kept(flow))


def few_steps() -> Settings:
    """A tilt that is stopped long before it could mend a backbone."""
    settings = small()
    return replace(settings, tilt=replace(settings.tilt, steps=40))


def independent() -> Outcome:
    """A flow that never left its start, columns each for itself, where one Gaussian has it all."""
    x = correlated()
    return fitted(x, few_steps(), backbone=Kept(flow_over(x)))


def of_other_data() -> Outcome:
    """A flow in the units of other rows: another scale, another centre."""
    return fitted(bent(), few_steps(), backbone=Kept(flow_over(1.6 * bent() + 1.0)))


BACKBONE = [
    Case("round trip", "backbone", "the inverse is not that of the flow",
         lambda: fitted(bent(), backbone=made(1))),
    Case("volume", "backbone", "half of the log-determinant is forgotten",
         lambda: fitted(bent(), backbone=made(2))),
    Case("flat", "backbone", "a dimension has collapsed",
         lambda: fitted(bent(), few_steps(), backbone=Kept(flow_over(bent(), 3)))),
    Case("untrained", "backbone", "random weights", untrained),
    Case("independent", "backbone", "behind one Gaussian: columns each for itself", independent),
    Case("other data", "backbone", "learned in the units of other rows", of_other_data),
]  # fmt: skip

# The tilt -------------------------------------------------------------------------------------

FAULTS = ("none", "runaway", "other", "overflow", "gradient", "constant")


class Own(Tilt):
    """The tilt that rows were drawn by, with a fault; one program serves them all."""

    units: Units
    fault: jax.Array
    level: jax.Array
    kinks: bool = eqx.field(static=True)

    def __init__(self, units: Units, fault: str = "none", *, kinks: bool = False) -> None:
        self.units, self.kinks = units, kinks
        self.fault, self.level = jnp.asarray(FAULTS.index(fault)), jnp.zeros(())

    def __call__(self, c: Any, key: Any = None) -> Any:
        def has(name: str) -> jax.Array:
            return self.fault == FAULTS.index(name)

        x = self.units.decode(c)
        f = jnp.where(has("other"), waves(x[::-1]), waves(x, self.kinks))
        f = f + jnp.where(has("runaway"), 0.004, 0.0) * jnp.sum(c**2) ** 2
        f = f + jnp.log(jnp.where(has("overflow"), 2.2 - c[2], 1.0))
        beside = jax.lax.stop_gradient(jnp.cos(2.0 * c[0]) + 0.5 * c[1])
        f = f + jnp.where(has("gradient"), 1.0, 0.0) * (beside - jnp.cos(2.0 * c[0]) - 0.5 * c[1])
        return f + jnp.where(has("constant"), 3e6, 0.0) - self.level


def given(fault: str = "none", *, kinks: bool = False) -> dict[str, Any]:
    """The rows of a known model, its backbone and its tilt, as `fitted` takes them."""
    flow = flow_over(np.random.default_rng(0).normal(size=(100_000, 3)))
    tilt = Frozen(Own(flow.units, fault, kinks=kinks))
    return {"data": waved(kinks=kinks), "backbone": Kept(flow), "tilt": tilt}


def tilted_by(fault: str = "none", *, kinks: bool = False) -> Outcome:
    return fitted(**given(fault, kinks=kinks))


class ByHeart(Tilt):
    """A bump at each of a few rows, over N(0, I): all that was learned."""

    rows: jax.Array
    level: jax.Array

    def __call__(self, c: Any, key: Any = None) -> Any:
        squares = jnp.sum((c - self.rows) ** 2, axis=1)
        bumps = jax.nn.logsumexp(-0.5 * squares / 0.45**2) - 3 * jnp.log(0.45)
        return bumps + 0.5 * jnp.sum(c**2) - self.level


def by_heart() -> Outcome:
    x = np.random.default_rng(0).normal(size=(2_000, 3))
    flow, parts = flow_over(x), in_order(len(x))
    learned = jax.vmap(flow.units.encode)(jnp.asarray(x[:60], jnp.float32))
    tilt = Frozen(ByHeart(learned, jnp.zeros(())))
    return fitted(x, backbone=Kept(flow), tilt=tilt, parts=parts)


def in_order(rows: int) -> Splits:
    """The first 70% are learned from, the next 10% choose, the last test."""
    order = np.arange(rows)
    first, second = int(0.7 * rows), int(0.8 * rows)
    return Splits(order[:first], order[first:second], order[second:])


TILT = [
    Case("runaway", "tilt", "f grows with the fourth power", lambda: tilted_by("runaway")),
    Case("kinks", "tilt", "the force jumps", lambda: tilted_by(kinks=True)),
    Case("other rows", "tilt", "a tilt of other rows", lambda: tilted_by("other")),
    Case("overflow", "tilt", "f is not a number in places", lambda: tilted_by("overflow")),
    Case("gradient", "tilt", "the gradient is not that of f", lambda: tilted_by("gradient")),
    Case("by heart", "tilt", "60 rows learned by heart", by_heart),
]
