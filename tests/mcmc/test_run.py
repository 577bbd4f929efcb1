"""The driver: counts, news, compilation, and the user's mistakes."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.errors import InputError
from tiltflow.mcmc import run
from tiltflow.mcmc.run import sample


class Normal(eqx.Module):
    scale: jnp.ndarray

    def log_densities(self, x):
        return -0.5 * jnp.sum((x / self.scale) ** 2, axis=-1)


def norm(position, log_density):
    return {"norm": jnp.sum(position**2, axis=-1), "log_density": log_density}


def draw(scale=1.0, **settings):
    chosen = {"num_draws": 25, "num_warmup": 30, "num_leapfrogs": 3, "chunk": 10} | settings
    target = Normal(jnp.asarray(scale))
    return sample(jr.key(0), target.log_densities, jr.normal(jr.key(1), (8, 2)), **chosen)


def test_draws_what_was_asked_for_whatever_the_chunk():
    draws = draw(summary=norm)
    assert draws.positions.shape == (8, 25, 2)
    assert draws.summaries["norm"].shape == (8, 25)
    np.testing.assert_allclose(
        draws.summaries["norm"], np.sum(draws.positions**2, axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        draws.summaries["log_density"], -0.5 * draws.summaries["norm"], rtol=1e-5
    )
    assert draws.gradients == 75
    np.testing.assert_array_equal(draws.final.position, draws.positions[:, -1])


def test_the_same_key_gives_the_same_draws():
    np.testing.assert_array_equal(draw().positions, draw().positions)


def test_summaries_alone_need_no_positions():
    draws = draw(keep=False, summary=norm)
    assert draws.positions is None
    np.testing.assert_array_equal(draws.summaries["norm"], draw(summary=norm).summaries["norm"])


def test_news_of_every_chunk():
    told = []
    draw(on_chunk=lambda *news: told.append(news))
    assert [news[:3] for news in told] == [
        (10, 55, "warmup"),
        (20, 55, "warmup"),
        (30, 55, "warmup"),
        (40, 55, "sampling"),
        (50, 55, "sampling"),
        (55, 55, "sampling"),
    ]
    assert all(0 <= acceptance <= 1 and size > 0 for _, _, _, acceptance, size, _ in told)
    assert len({size for _, _, phase, _, size, _ in told if phase == "sampling"}) == 1


def test_settings_and_weights_change_without_recompiling():
    draw()
    traces = []
    original = run.hmc.step

    def counting(*arguments, **settings):
        traces.append(1)
        return original(*arguments, **settings)

    run.hmc.step = counting
    try:
        draw(scale=2.0, target=0.7, jitter=0.1, step_size=0.5, num_draws=7, num_warmup=3)
        assert traces == []
        draw(num_leapfrogs=4)
        assert traces != []  # the counter counts
    finally:
        run.hmc.step = original


def test_ten_thousand_chains_at_once():
    target = Normal(jnp.asarray(1.0))
    draws = sample(
        jr.key(0),
        target.log_densities,
        jnp.zeros((10_000, 2)),
        num_draws=5,
        num_warmup=20,
        num_leapfrogs=3,
        chunk=20,
    )
    assert draws.positions.shape == (10_000, 5, 2)


def test_divergences_are_counted_and_kept_out_of_the_adaptation():
    def box(x):
        inside = jnp.all(jnp.abs(x) < 1, axis=-1)
        return jnp.where(inside, 0.0, jnp.nan)

    draws = sample(
        jr.key(0), box, jnp.zeros((50, 2)), num_draws=200, num_warmup=100, num_leapfrogs=4
    )
    assert draws.divergences > 0
    assert np.all(np.isfinite(draws.positions))
    assert 0.01 < draws.step_size < 1
    assert np.var(draws.positions) == pytest.approx(1 / 3, rel=0.1)  # uniform on (-1, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_draws": 0}, "num_draws is 0"),
        ({"num_warmup": -1}, "num_warmup is -1"),
        ({"num_leapfrogs": 0}, "num_leapfrogs is 0"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"step_size": float("nan")}, "step_size is nan"),
    ],
)
def test_mistakes(settings, words):
    with pytest.raises(InputError, match=words):
        draw(**settings)


def test_a_start_that_cannot_be():
    def log_density(x):
        return -0.5 * jnp.sum(x**2, axis=-1)

    for start, words in (
        (jnp.zeros(3), "shape"),
        (jnp.full((3, 2), jnp.nan), "not finite for some chains"),
        (jnp.full((3, 2), 1e30), "log-density is not finite"),
    ):
        with pytest.raises(InputError, match=words):
            sample(jr.key(0), log_density, start, num_draws=2, num_warmup=0)
