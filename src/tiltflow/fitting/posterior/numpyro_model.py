"""The posterior of a NumPyro model, as `tiltflow.posterior` takes one.

A model has its density in natural coordinates (`numpyro.infer.util.log_density`), its supports say
the kinds of its parameters, and draws of its prior say where to look. Arrays among its arguments
are data: other ones of the same shapes do not compile anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tiltflow.errors import InputError
from tiltflow.fitting.posterior.given import Given
from tiltflow.fitting.posterior.kinds import (
    Angle,
    Correlation,
    Interval,
    Kind,
    Ordered,
    Positive,
    Real,
    Simplex,
)

PRIOR_DRAWS = 2_000


def from_numpyro(model: Callable[..., Any], *args: Any, seed: int = 0, **kwargs: Any) -> Given:
    """A NumPyro model with its data, to be given to `tiltflow.posterior`.

    Args:
        model: a function with `numpyro.sample` statements.
        args, kwargs: what it is called with, the data it observes among them.
        seed: of the draws of the prior from which the search starts.

    Returns:
        The log of the joint density of the latent variables and the data, whose integral is the
        evidence; a kind for each latent variable; and draws of the prior, if it is proper.

    Raises:
        InputError: NumPyro is not installed; a latent variable is discrete, or its support is one
            that no kind has or that depends on other variables.
    """
    try:
        import numpyro  # pyright: ignore[reportMissingImports]
        from numpyro.infer import Predictive  # pyright: ignore[reportMissingImports]
        from numpyro.infer.util import log_density  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "NumPyro is not installed; install tiltflow[numpyro], or write the density in JAX"
        ) from None
    seeded = (numpyro.handlers.seed(model, key) for key in jax.random.split(jax.random.key(seed)))
    traces = [numpyro.handlers.trace(one).get_trace(*args, **kwargs) for one in seeded]
    kinds = {}
    for name, site in traces[0].items():
        if site["type"] == "sample" and not site["is_observed"]:
            kinds[name] = _kind(name, site, traces[1][name])
    if not kinds:
        raise InputError("the model has no latent variable; expected a numpyro.sample without obs")
    leaves, tree = jax.tree.flatten((args, kwargs))
    is_data = [isinstance(leaf, np.ndarray | jax.Array) and np.ndim(leaf) > 0 for leaf in leaves]
    data = [leaf for leaf, array in zip(leaves, is_data, strict=True) if array]

    def joint(_values: Any, _data: Any) -> Any:
        arrays = iter(_data)
        filled = [
            next(arrays) if array else leaf for leaf, array in zip(leaves, is_data, strict=True)
        ]
        given, named = jax.tree.unflatten(tree, filled)
        return log_density(model, given, named, _values)[0]

    try:
        prior = Predictive(model, num_samples=PRIOR_DRAWS)(
            jax.random.key(seed + 1), *args, **kwargs
        )
        start = _inside(kinds, {name: np.asarray(prior[name]) for name in kinds})
    except (NotImplementedError, KeyError):  # a prior that cannot be drawn from
        start = None
    return Given(joint, kinds, start, data)


def _inside(kinds: dict[str, Kind], draws: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Those draws that no rounding has put on a bound; None if they are few."""
    fine = np.all([kind.inside(draws[n].astype(np.float64)) for n, kind in kinds.items()], axis=0)
    return {name: values[fine] for name, values in draws.items()} if fine.sum() >= 100 else None


def _kind(name: str, site: Any, again: Any) -> Kind:
    """The kind of a site; `again` is the same site with other values of all."""
    from numpyro.distributions import constraints  # pyright: ignore[reportMissingImports]

    shape = np.shape(site["value"])
    support, other = site["fn"].support, again["fn"].support
    if support.is_discrete:
        raise InputError(
            f"{name!r} is discrete; expected continuous variables: sum it out of the model"
        )
    while hasattr(support, "base_constraint"):
        support, other = support.base_constraint, other.base_constraint
    low, high = _bounds(support)
    if (low, high) != _bounds(other):
        raise InputError(
            f"the support of {name!r} depends on other variables; expected fixed bounds: scale it "
            f"in the model"
        )
    for kind, known in (
        (Angle, (constraints.circular,)),
        (Real, (constraints.real, constraints.real_vector, constraints.real_matrix)),
        (Positive, (constraints.positive, constraints.nonnegative)),
        (Simplex, (constraints.simplex,)),
        (Ordered, (constraints.ordered_vector,)),
    ):
        if any(support is one for one in known):
            return kind(*shape)
    if support is constraints.corr_matrix and len(shape) == 2:
        return Correlation(shape[0])
    if low is not None and high is not None:
        return Interval(low, high, *shape)
    if low == 0.0:
        return Positive(*shape)
    raise InputError(
        f"the support of {name!r} is {support!r:.60}, which no kind of parameter has; shift it to "
        f"0 or scale it in the model"
    )


def _bounds(support: Any) -> tuple[float | None, float | None]:
    """Lower and upper, where they are numbers that all components have in common."""
    found = []
    for name in ("lower_bound", "upper_bound"):
        value = getattr(support, name, None)
        each = np.unique(np.asarray(value)) if value is not None else np.empty(0)
        found.append(float(each[0]) if len(each) == 1 else None)
    return found[0], found[1]
