"""Coverage: is the mass of the tilted model where its latent chains look for it?

Chains that agree with one another may all miss the same mass. Three witnesses who do not travel
with them: exact draws of the backbone (the tail of exp f, by Pareto k-hat), chains of the same
model in data space, and held-out data pulled into the latent space.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tiltflow.backbones.base import Flow
from tiltflow.data import Dataset
from tiltflow.diagnostics.coverage import Comparison, compare, of_chains, of_rows
from tiltflow.diagnostics.verdict import Check
from tiltflow.learning.filled import Filled, with_room
from tiltflow.mcmc.run import sample
from tiltflow.model.data_space import data_space_log_density, data_space_start
from tiltflow.model.exact import exact_points
from tiltflow.model.fitted import FittedModel
from tiltflow.model.log_normalizer import exact_f
from tiltflow.model.tilted import TiltedModel
from tiltflow.normalizer.pareto import highest_trusted_k, pareto_k
from tiltflow.parallel.devices import over_devices

COORDINATES = 64  # at most so many are compared, evenly spread
CONVERGED, ENOUGH = 1.05, 50.0  # R-hat and effective size from which a reference is believed
HALF = 0.5  # of the quantities must be known, for the reference to count
GAP = 0.2  # standard deviations from held-out data, beyond chance: a small effect (Cohen 1988)


@dataclass(frozen=True)
class Found:
    """One witness.

    Attributes:
        block: plain values.
        check: held against its limit, or None if nothing could be compared.
        note: why not, or empty.
    """

    block: dict[str, Any]
    check: Check | None
    note: str = ""


def reach(model: TiltedModel, number: int, key: PRNGKeyArray) -> Found:
    """Pareto k-hat of exp f at `number` exact draws of the backbone."""
    k = pareto_k(np.asarray(exact_f(model, number, key), np.float64))
    limit = float(highest_trusted_k(number))
    check = Check(
        name="Pareto k-hat of exp f under q",
        value=k,
        limit=limit,
        ok=k <= limit,
        part="backbone",
        severity="caution",
        means="The backbone's draws hardly reach the mass that f makes: from q alone nobody can "
        "say whether chains started there find all of it.",
        try_="Rely on the data-space reference and the held-out data; fit the backbone for longer, "
        "or temper f if chains cannot get there.",
    )
    return Found({"pareto_k": k if math.isfinite(k) else None, "exact_draws": number}, check)


def against_data_space(
    model: TiltedModel,
    positions: np.ndarray,
    *,
    draws: int,
    warmup: int,
    leapfrogs: int,
    key: PRNGKeyArray,
    listen: Callable[..., Any],
) -> Found:
    """Latent chains against HMC on log q(y) + f(y), where that has converged.

    Means of f, and of the first two moments of coordinates y, in standard errors.

    Args:
        model: of both.
        positions: latent draws, `[chains, draws, *latent_shape]`.
        draws, warmup, leapfrogs: of the reference, which has as many chains.
        key: random key.
        listen: told the progress.
    """
    if not isinstance(model.backbone, Flow):
        return Found({}, None, "There is no data-space reference: the backbone is not a flow.")
    start_key, key = jr.split(key)
    start = exact_points(model.backbone, start_key, len(positions))
    reference = sample(
        key,
        data_space_log_density(model),
        data_space_start(model, start),
        num_draws=draws,
        num_warmup=warmup,
        num_leapfrogs=leapfrogs,
        summary=_Tilted(model.tilt),
        on_chunk=lambda news: listen("reference", "progress", **news.event()),
    )
    y = np.asarray(_coordinates(model, jnp.asarray(positions)))
    f = np.asarray(_tilts(model, jnp.asarray(y)))
    names, ours = _moments(y, f, "y")
    _, theirs = _moments(np.asarray(reference.positions), reference.summaries["f"], "y")
    compared = compare(
        of_chains(ours, ess_min=ENOUGH),
        of_chains(theirs, rhat_max=CONVERGED, ess_min=ENOUGH),
    )
    block = {
        **_block(compared, names),
        "chains": len(positions),
        "draws": draws,
        "acceptance": reference.acceptance,
        "divergences": reference.divergences,
    }
    if compared.compared < HALF:
        return Found(
            block,
            None,
            f"The data-space reference has not converged itself ({compared.compared:.0%} of its "
            f"quantities have R-hat up to {CONVERGED}): it says nothing about the latent chains.",
        )
    value = compared.largest_z
    check = Check(
        name="latent against data-space chains",
        value=value,
        limit=compared.limit,
        ok=value <= compared.limit,
        severity="caution" if value <= 2 * compared.limit else "failed",
        means=f"Two samplers of the same model disagree, in standard errors, most about "
        f"{names[compared.worst]}: at least one of them misses mass.",
        try_="Draw longer chains of both; if it stays, look at where f differs, and fit the "
        "backbone for longer.",
    )
    return Found(block, check)


def against_held_out(
    fitted: FittedModel, positions: np.ndarray, f: np.ndarray, rows: Dataset, key: PRNGKeyArray
) -> Found:
    """Latent chains against held-out data, pulled to the latent space.

    Means of f, |u|^2, and of the first two moments of latent coordinates. A model is never exact,
    so a gap counts only where it is beyond chance, and by that part.

    Args:
        fitted: the model.
        positions: latent draws, `[chains, draws, *latent_shape]`.
        f: of them, `[chains, draws]`.
        rows: held-out data.
        key: of the dequantisation.
    """
    model = fitted.model
    if not isinstance(model.backbone, Flow):
        return Found({}, None, "Data have no latent position: the backbone is not a flow.")
    values = fitted.check_rows(rows.values)
    x = jnp.asarray(with_room(values))
    x = Filled(fitted.noisy(key, x), jnp.asarray(len(values)))
    u, f_rows = (np.asarray(found)[: len(values)] for found in _pulled(model, x))
    u = u.reshape(1, len(u), -1)
    latent = np.asarray(positions).reshape(*positions.shape[:2], -1)
    names, ours = _moments(latent, f, "u", with_norm=True)
    _, theirs = _moments(u, f_rows[None], "u", with_norm=True)
    compared = compare(of_chains(ours, ess_min=ENOUGH), of_rows(theirs[0]))
    worst = int(np.argmax(compared.certain))
    value = float(compared.certain[worst])
    check = Check(
        name="latent chains against held-out data",
        value=value,
        limit=GAP,
        ok=value <= GAP,
        part="tilt",
        severity="caution",
        means=f"Draws and held-out data differ in the latent space by more than chance, most in "
        f"{names[worst]} (in standard deviations): the model, or the chains, put mass elsewhere.",
        try_="If the chains have converged it is the model: where f is higher at draws than at "
        "held-out data, the tilt has learned its training rows; bring more data.",
    )
    block = _block(compared, names) | {"gap_beyond_chance": value, "rows": rows.rows}
    if not compared.compared:
        return Found(
            block,
            None,
            "Nothing was compared with held-out data: no mean over the chains rests on "
            f"{ENOUGH:.0f} effective draws.",
        )
    return Found(block, check)


def _moments(
    y: np.ndarray, f: np.ndarray, name: str, *, with_norm: bool = False
) -> tuple[list[str], np.ndarray]:
    """Names and values `[chains, draws, quantities]`: f, |y|^2 if asked, y_i and y_i^2."""
    dim = y.shape[-1]
    some = np.unique(np.linspace(0, dim - 1, min(dim, COORDINATES)).astype(int))
    chosen = y[..., some]
    scalars, names = [np.asarray(f)[..., None]], ["f"]
    if with_norm:
        scalars.append(np.sum(y**2, axis=-1, keepdims=True))
        names.append(f"|{name}|^2")
    names += [f"{name}[{i}]" for i in some] + [f"{name}[{i}]^2" for i in some]
    return names, np.concatenate([*scalars, chosen, chosen**2], axis=-1)


def _block(compared: Comparison, names: list[str]) -> dict[str, Any]:
    known = compared.compared > 0
    return {
        "compared": compared.compared,
        "largest_z": compared.largest_z if known else None,
        "limit_z": compared.limit,
        "worst": names[compared.worst] if known else None,
        "gap_of_worst": float(compared.gap[compared.worst]) if known else None,
        "z_f": float(compared.z[0]) if np.isfinite(compared.z[0]) else None,
    }


class _Tilted(eqx.Module):
    """The summary of data-space chains: f at their coordinates."""

    tilt: Callable[[Array], Array]

    def __call__(self, position: Array, log_density: Array) -> dict[str, Array]:
        """F of each chain."""
        return {"f": jax.vmap(self.tilt)(position) + 0 * log_density}


@eqx.filter_jit
def _coordinates(model: TiltedModel, u: Array) -> Array:
    """Coordinates `[chains, draws, dim]` of latent points, a chain at a time."""
    return jax.lax.map(jax.vmap(model.backbone.coordinates), u)


@eqx.filter_jit
def _tilts(model: TiltedModel, y: Array) -> Array:
    """F of coordinates `[chains, draws, dim]`."""
    return jax.lax.map(lambda y: jax.vmap(model.tilt)(y) + 0 * y[:, 0], y)


@over_devices
def _pulled(model: TiltedModel, x: Filled) -> tuple[Array, Array]:
    """Latent positions and f of data `[rows, *data_shape]`, and what lies behind them."""

    def one(x: Array) -> tuple[Array, Array]:
        y = model.backbone.units.encode(x)
        assert isinstance(model.backbone, Flow)
        return model.backbone.inverse(y)[0], model.tilt(y) + 0 * y[0]

    return x.map(one)
