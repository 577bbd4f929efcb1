"""A mixture of normal densities that is roughly the model, and what it says of what is missing.

It proposes values and scales chains (`completion.py`); what they draw does not depend on it. Of an
ensemble with Gaussian mixtures among its members it is these; of others one normal density with the
model's moments. All of it in columns w (`conditional.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from tiltflow.backbones import Ensemble
from tiltflow.backbones.density import MixtureDensity
from tiltflow.model.completion.conditional import columns_of
from tiltflow.model.exact import exact
from tiltflow.model.tilted import TiltedModel
from tiltflow.model.told import f_of

DRAWS = 4_096  # that moments are of
FEWEST = 0.1  # of them that are effective, for f to be counted
LARGEST = 512  # columns with a full covariance
SHRINK = 1e-3  # of the correlations, towards none
OUTERMOST = 1e-3  # share of draws on either side that count as the last before them
WIDE, SHARE = 1.5, 0.05  # the one normal density beside a mixture: how wide, and how often
LEAST_WEIGHT = 1e-3  # of a component


class Mixture(NamedTuple):
    """K normal components.

    Attributes:
        log_weights: `[K]`, normalised; or `[rows, K]`, given a part of each row.
        means: `[K, dim]`; given a part, `[rows, K, missing]`.
        covariances: `[K, dim, dim]`, or `[K, dim]` where they are diagonal; given a part they are
            the same for all rows, `[K, missing, missing]` or `[K, missing]`.
    """

    log_weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @property
    def of_members(self) -> bool:
        """Whether there are mixtures among the model's members."""
        return len(self.means) > 1


def rough(model: TiltedModel, key: PRNGKeyArray) -> Mixture:
    """The mixture of `model`; of one without mixtures, moments of draws, weighted by exp(f)."""
    members = _members(model)
    if not members:
        return _one_normal(model, key)
    weights = np.concatenate([weights for weights, _, _ in members])
    weights = np.where(weights >= LEAST_WEIGHT * weights.sum(), weights, 0.0)
    kept = weights > 0
    means = np.concatenate([means for _, means, _ in members])[kept]
    covariances = np.concatenate([covariances for _, _, covariances in members])[kept]
    shares = weights[kept] / weights.sum()
    centre = shares @ means
    away = means - centre
    whole = np.einsum("k,kmn->mn", shares, covariances) + (shares * away.T) @ away
    return Mixture(
        np.log(np.append((1 - SHARE) * shares, SHARE)),
        np.concatenate([means, centre[None]]),
        np.concatenate([covariances, WIDE**2 * whole[None]]),
    )


def _one_normal(model: TiltedModel, key: PRNGKeyArray) -> Mixture:
    """One component with the model's moments; f counts where the weights are fair."""
    drawn = exact(model.backbone, key, DRAWS)
    w = np.asarray(columns_of(model.backbone.units, jnp.asarray(drawn.c)), np.float64)
    f = f_of(model.tilt, drawn.c)
    f = np.where(np.isfinite(f), f, -np.inf)
    weights = np.exp(f - f.max()) if np.isfinite(f).any() else np.ones(len(f))
    if weights.sum() ** 2 < FEWEST * DRAWS * np.sum(weights**2):
        weights = np.ones(len(w))
    weights /= weights.sum()
    w = np.clip(w, *np.nanquantile(w, (OUTERMOST, 1 - OUTERMOST), axis=0))  # of heavy tails
    mean = weights @ w
    away = w - mean
    if w.shape[1] > LARGEST:
        variances = np.maximum(weights @ away**2, 1e-12)
        return Mixture(np.zeros(1), mean[None], variances[None])
    covariance = (weights * away.T) @ away
    variances = np.maximum(np.diagonal(covariance), 1e-12)
    covariance = (1 - SHRINK) * covariance
    np.fill_diagonal(covariance, variances)
    return Mixture(np.zeros(1), mean[None], covariance[None])


def _members(model: TiltedModel) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weights, means and covariances of the Gaussian mixtures among an ensemble's members."""
    if not isinstance(model.backbone, Ensemble) or model.backbone.dim > LARGEST:
        return []
    units, found = model.backbone.units, []
    shares = np.exp(np.asarray(model.backbone.log_weights, np.float64))[1:]
    for share, member in zip(shares, model.backbone.members, strict=True):
        if not isinstance(member, MixtureDensity) or share == 0:
            continue
        log_weights, means, packed = (
            np.asarray(a, np.float64) for a in (member.log_weights, member.means, member.whiteners)
        )
        weights = np.exp(log_weights - log_weights.max())
        whiteners = np.tril(packed, -1)
        k = np.arange(means.shape[1])
        whiteners[:, k, k] = np.exp(packed[:, k, k])
        factors = np.linalg.inv(whiteners)
        dim = means.shape[1]
        to_w = np.asarray(columns_of(units, jnp.eye(dim)), np.float64).T  # linear
        factors = to_w @ factors
        covariances = factors @ factors.transpose(0, 2, 1)
        found.append((share * weights / weights.sum(), means @ to_w.T, covariances))
    return found


def given(
    of: Mixture, w: Float[np.ndarray, "rows dim"], missing: Bool[np.ndarray, " dim"]
) -> Mixture:
    """The mixture of the columns that are `missing`, given the others of `w`."""
    m, s = np.flatnonzero(missing), np.flatnonzero(~missing)
    away = w[:, None, s] - of.means[:, s]  # [rows, K, seen]
    if of.covariances.ndim == 2:
        means = np.broadcast_to(of.means[:, m], (len(w), 1, len(m)))
        return Mixture(np.zeros((len(w), 1)), means, of.covariances[:, m])
    seen = of.covariances[:, s[:, None], s]
    across = of.covariances[:, s[:, None], m]
    slopes = np.linalg.solve(seen, across)  # [K, seen, missing]
    left = of.covariances[:, m[:, None], m] - across.transpose(0, 2, 1) @ slopes
    squares = np.sum(away * np.linalg.solve(seen, away.transpose(1, 2, 0)).transpose(2, 0, 1), -1)
    log_weights = of.log_weights - 0.5 * (squares + np.linalg.slogdet(seen)[1])
    log_weights = log_weights - np.logaddexp.reduce(log_weights, axis=1)[:, None]
    means = of.means[:, m] + np.einsum("rks,ksm->rkm", away, slopes, optimize=True)
    return Mixture(log_weights, means, 0.5 * (left + left.transpose(0, 2, 1)))


def moments(of: Mixture) -> tuple[Float[np.ndarray, "rows missing"], np.ndarray]:
    """The mean of each row's mixture, and a root of its covariance, `[rows, missing, missing]`.

    Where covariances are diagonal the root is `[rows, missing]`.
    """
    weights = np.exp(of.log_weights)
    mean = np.einsum("rk,rkm->rm", weights, of.means)
    if of.covariances.ndim == 2:
        return mean, np.broadcast_to(np.sqrt(of.covariances[0]), mean.shape)
    away = of.means - mean[:, None]
    covariance = np.einsum("rk,kmn->rmn", weights, of.covariances, optimize=True)
    covariance += np.einsum("rk,rkm,rkn->rmn", weights, away, away, optimize=True)
    return mean, _root(covariance)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of each, of what is positive in it."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-10 * values[..., -1:] + 1e-30)
    return (vectors * np.sqrt(values)[..., None, :]) @ vectors.swapaxes(-1, -2)
