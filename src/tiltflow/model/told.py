"""What an ensemble and its tilt say of many coordinates, on the host, by one program.

The members are dear to compile. So weights, tilts, proposals and scores of an ensemble all ask the
same program what each member says, and what follows from that is arithmetic here, in float64.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import logsumexp

from tiltflow.backbones import Ensemble
from tiltflow.backbones.ensemble import Told
from tiltflow.model.exact import in_parts, whole
from tiltflow.model.tilted import TiltedModel
from tiltflow.parallel.devices import over_devices
from tiltflow.tilts import LinearTilt, ReadsCoordinates, Tilt


class Said(NamedTuple):
    """`backbones.ensemble.Told` of many coordinates."""

    each: Float[np.ndarray, "rows members"]
    kinds: Float[np.ndarray, "rows components"]


class Scored(NamedTuple):
    """The tilt and the log-density of the ensemble, nats, `[rows]` each."""

    f: Float[np.ndarray, " rows"]
    log_q: Float[np.ndarray, " rows"]


def told_of(ensemble: Ensemble, c: Float[np.ndarray, "rows dim"]) -> Said:
    """All that the members say of these coordinates."""
    parts = [_told_of_part(ensemble, part) for part in in_parts(c)]
    return Said(*(whole(some, len(c)).astype(np.float64) for some in zip(*parts, strict=True)))


def features_of(
    ensemble: Ensemble, network: Tilt | None, c: Float[np.ndarray, "rows dim"], *, kinds: bool
) -> Float[np.ndarray, "rows features"]:
    """`tilts.linear.features` of many coordinates."""
    return _features(told_of(ensemble, c), ensemble, network, c, kinds=kinds)


def f_of(tilt: ReadsCoordinates, c: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, " rows"]:
    """f at many coordinates."""
    if isinstance(tilt, LinearTilt):
        return tilt.of(features_of(tilt.ensemble, tilt.network, c, kinds=tilt.kinds))
    return whole([_f_of_part(tilt, part) for part in in_parts(c)], len(c)).astype(np.float64)


def scored(model: TiltedModel, c: Float[np.ndarray, "rows dim"]) -> Scored:
    """Of a model whose backbone is an ensemble."""
    ensemble, tilt = model.backbone, model.tilt
    assert isinstance(ensemble, Ensemble)
    told = told_of(ensemble, c)
    log_q = _log_q(ensemble, told)
    if isinstance(tilt, LinearTilt):
        f = tilt.of(_features(told, ensemble, tilt.network, c, kinds=tilt.kinds))
        return Scored(f, log_q)
    return Scored(f_of(tilt, c), log_q)


def _log_q(ensemble: Ensemble, told: Said) -> np.ndarray:
    return np.asarray(logsumexp(np.asarray(ensemble.log_weights, np.float64) + told.each, axis=1))


def _features(
    told: Said, ensemble: Ensemble, network: Tilt | None, c: np.ndarray, *, kinds: bool
) -> np.ndarray:
    log_q = _log_q(ensemble, told)[:, None]
    said = [log_q, told.each - log_q, *([told.kinds] if kinds else [])]
    if network is not None:
        said.append(f_of(network, c)[:, None])
    return np.concatenate(said, axis=1)


@over_devices
def _told_of_part(ensemble: Ensemble, c: Float[Array, "part dim"]) -> Told:
    return jax.vmap(ensemble.told)(c)


@over_devices
def _f_of_part(tilt: ReadsCoordinates, c: Float[Array, "part dim"]) -> Float[Array, " part"]:
    return jax.vmap(tilt)(c) + jnp.zeros(len(c))
