"""One normal density with a full covariance, shrunk as held-out rows want it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tiltflow.backbones.units.normal import affine_of, best_normal, standard
from tiltflow.errors import InputError


def nearly_collinear(rows, seed, noise=0.02):
    """Six columns of two factors, on unlike scales."""
    mix = np.random.default_rng(0).normal(size=(2, 6))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)) @ mix + noise * rng.normal(size=(rows, 6))
    return x * 10.0 ** np.arange(-2, 4)


def truth(x, noise=0.02):
    mix, scales = np.random.default_rng(0).normal(size=(2, 6)), 10.0 ** np.arange(-2, 4)
    inner = mix.T @ mix + noise**2 * np.eye(6)
    return stats.multivariate_normal(np.zeros(6), inner).logpdf(x / scales) - np.log(scales).sum()


def test_nearly_collinear_columns_are_hardly_shrunk():
    x, held_out, out = (nearly_collinear(n, s) for s, n in enumerate((2_000, 500, 2_000)))
    normal, told = best_normal(x, held_out)
    assert abs(normal.log_prob(out).mean() - truth(out).mean()) < 0.03
    assert told == pytest.approx(normal.log_prob(held_out).mean())
    # Power: the shrinkage that a few rows need is far off here.
    shrunk = np.corrcoef(x.T) * 0.98 + 0.02 * np.eye(6)
    scale = x.std(axis=0)
    wrong = stats.multivariate_normal(np.zeros(6), shrunk).logpdf(out / scale)
    assert wrong.mean() - np.log(scale).sum() < truth(out).mean() - 3


def test_few_rows_of_many_columns_are_shrunk():
    rng = np.random.default_rng(0)
    x, held_out = rng.normal(size=(30, 40)), rng.normal(size=(200, 40))
    normal, told = best_normal(x, held_out)
    assert np.isfinite(told)
    correlation = normal.factor @ normal.factor.T
    correlation /= np.outer(scale := np.sqrt(np.diag(correlation)), scale)
    assert np.abs(correlation - np.eye(40)).max() < 0.2  # of 30 rows unshrunk: 0.6


def test_the_change_of_variables_is_to_standard_normal_noise():
    x = nearly_collinear(1_000, 3, noise=0.5)
    normal, _ = best_normal(x, nearly_collinear(300, 4, noise=0.5))
    affine = affine_of(normal)

    def log_prob(x):
        u, log_det = affine.encode_and_log_det(x)
        return jnp.sum(jax.scipy.stats.norm.logpdf(u)) + log_det

    found = jax.vmap(log_prob)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, normal.log_prob(x), atol=2e-3)
    u = jnp.ones(6)
    np.testing.assert_allclose(affine.encode(affine.decode(u)), u, atol=1e-3)
    np.testing.assert_array_equal(standard(3).decode(jnp.arange(3.0)), jnp.arange(3.0))


def test_a_number_that_is_not_finite_is_an_input_error():
    x = nearly_collinear(50, 0)
    x[3, 2] = np.nan
    with pytest.raises(InputError, match="no covariance that is finite"):
        best_normal(x, nearly_collinear(50, 1))
