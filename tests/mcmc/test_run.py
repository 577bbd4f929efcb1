"""The driver: counts, news, compilation, thinning, targets, and the user's mistakes."""

import os
import signal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tiltflow.diagnostics.convergence import worst
from tiltflow.errors import InputError
from tiltflow.mcmc import HMC, Until, hamiltonian
from tiltflow.mcmc.length import FixedLength
from tiltflow.mcmc.run import sample
from tiltflow.mcmc.sinks import Nowhere


class Normal(eqx.Module):
    scale: jnp.ndarray

    def log_densities(self, x):
        return -0.5 * jnp.sum((x / self.scale) ** 2, axis=-1)


def norm(position, log_density):
    return {"norm": jnp.sum(position**2, axis=-1), "log_density": log_density}


def draw(scale=1.0, **settings):
    chosen = {"num_draws": 25, "num_warmup": 30, "num_leapfrogs": 3, "chunk": 10} | settings
    if "kernel" in settings:
        del chosen["num_leapfrogs"]
    target = Normal(jnp.asarray(scale))
    return sample(jr.key(0), target.log_densities, jr.normal(jr.key(1), (8, 2)), **chosen)


def counted(draws):
    """A diagnosis that counts: as many effective draws as draws, R-hat 1 + 10 / draws."""
    return float(draws.shape[1]), 1 + 10 / draws.shape[1]


@pytest.fixture
def traces(monkeypatch):
    """Grows whenever a transition is compiled."""
    grown, original = [], hamiltonian.transition

    def counting(*arguments, **settings):
        grown.append(1)
        return original(*arguments, **settings)

    monkeypatch.setattr(hamiltonian, "transition", counting)
    return grown


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
    assert (draws.gradients, draws.num_leapfrogs, draws.transitions) == (75, 3, 25)
    assert (draws.stopped, draws.interrupted) == ("draws", False)
    np.testing.assert_array_equal(draws.final.position, draws.positions[:, -1])
    other = draw(summary=norm, chunk=17)
    np.testing.assert_array_equal(other.positions, draws.positions)
    np.testing.assert_array_equal(other.energies, draws.energies)


def test_the_same_key_gives_the_same_draws_and_a_kernel_those_of_its_shorthand():
    np.testing.assert_array_equal(draw().positions, draw().positions)
    np.testing.assert_array_equal(
        draw(kernel=HMC(num_leapfrogs=3, target=0.7)).positions, draw(target=0.7).positions
    )


@pytest.mark.parametrize("thin", [2, 3, 7, 13])
def test_thinning_keeps_the_last_of_each_group(thin):
    """Groups that fit the chunk of 10, that straddle it, and that are longer than it."""
    every = draw(num_draws=4 * thin, summary=norm)
    thinned = draw(num_draws=4, thin=thin, summary=norm)
    np.testing.assert_array_equal(thinned.positions, every.positions[:, thin - 1 :: thin])
    np.testing.assert_array_equal(
        thinned.summaries["norm"], every.summaries["norm"][:, thin - 1 :: thin]
    )
    assert thinned.gradients == every.gradients


def test_summaries_alone_need_no_positions_and_moments_are_those_of_the_positions():
    whole = draw(summary=norm)
    draws = draw(keep=False, summary=norm)
    assert (draws.positions, whole.moments) == (None, None)
    np.testing.assert_array_equal(draws.summaries["norm"], whole.summaries["norm"])
    np.testing.assert_allclose(draws.moments.mean, whole.positions.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(
        draws.moments.variance(), whole.positions.var(axis=1, ddof=1), rtol=1e-4
    )
    nothing = draw(keep=False, summary=norm, sink=Nowhere())
    assert nothing.energies.shape == (8, 0)
    np.testing.assert_array_equal(nothing.moments.mean, draws.moments.mean)


def test_news_of_every_chunk():
    told = []
    draw(on_chunk=told.append, diagnose=counted)
    assert [(news.done, news.total, news.phase) for news in told] == [
        (10, 55, "warmup"),
        (20, 55, "warmup"),
        (30, 55, "warmup"),
        (40, 55, "sampling"),
        (50, 55, "sampling"),
        (55, 55, "sampling"),
    ]
    assert all(0 <= news.acceptance <= 1 and news.step_size > 0 for news in told)
    assert len({news.step_size for news in told if news.phase == "sampling"}) == 1
    assert told[0].rate == 0
    assert all(news.rate > 0 for news in told[1:])
    assert told[-1].seconds_left == 0
    assert [news.draws for news in told] == [0, 0, 0, 10, 20, 25]
    np.testing.assert_array_equal([news.ess for news in told], [np.nan] * 4 + [20, 25])


def test_a_summary_that_is_no_number_is_never_on_target():
    def holed(position, log_density):
        return {"g": jnp.log(position[:, 0])}

    reached = draw(diagnose=worst, until=Until(ess=5), summary=norm, num_draws=200)
    assert reached.stopped == "ess"  # power: without the hole the target is met
    missed = draw(diagnose=worst, until=Until(ess=5), summary=holed, num_draws=200)
    assert missed.stopped == "draws"


def test_settings_and_weights_change_without_recompiling(traces):
    draw()
    traces.clear()
    draw(
        scale=2.0, target=0.7, jitter=0.1, step_size=0.5, length=2.0, num_draws=7, num_warmup=3,
        thin=3,
    )  # fmt: skip
    draw(kernel=HMC(num_leapfrogs=3, target=0.9))
    assert traces == []
    draw(num_leapfrogs=4)
    assert traces != []  # the counter counts


class Distance(FixedLength):
    """A rule that takes the chains' mean distance from the origin for the length."""

    def update(self, memory, before, info):
        return jnp.mean(jnp.abs(before))


class Distant(HMC):
    """A kernel that brings the rule itself."""

    @property
    def length_rule(self):
        return Distance()


def test_a_rule_of_the_length_is_followed_in_warm_up_and_kept_afterwards():
    told = []
    draws = draw(length_rule=Distance(), on_chunk=told.append)
    lengths = [news.length for news in told]
    assert len({*lengths[:4]}) == 4
    assert len({*lengths[3:]}) == 1
    assert float(draws.tuning.length) == lengths[-1] != 1.5
    own = draw(kernel=Distant(num_leapfrogs=3))
    assert float(own.tuning.length) == lengths[-1]
    assert float(draw().tuning.length) == 1.5


class Still(HMC):
    """A kernel that has no step to adapt."""

    target: None = None


def test_a_kernel_without_a_target_keeps_its_step_size():
    assert draw(kernel=Still(num_leapfrogs=3), step_size=0.25).step_size == 0.25
    assert draw(kernel=HMC(num_leapfrogs=3), step_size=0.25).step_size != 0.25


def test_stops_at_the_first_look_that_reaches_the_target():
    draws = draw(num_draws=400, until=Until(ess=100), diagnose=counted)
    assert draws.positions.shape == (8, 100, 2)
    assert draws.stopped == "ess"
    np.testing.assert_array_equal(draws.positions, draw(num_draws=100).positions)
    assert draw(num_draws=400, until=Until(rhat=1.2), diagnose=counted).positions.shape[1] == 50
    both = draw(num_draws=400, until=Until(ess=100, rhat=1.2), diagnose=counted)
    assert (both.positions.shape[1], both.stopped) == (100, "ess and rhat")
    never = draw(num_draws=60, until=Until(ess=100), diagnose=counted)
    assert (never.positions.shape[1], never.stopped) == (60, "draws")


def test_stops_when_the_time_is_over():
    draws = draw(num_draws=10**6, until=Until(seconds=1e-9))
    assert draws.stopped == "seconds"
    assert draws.energies.size == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_chunk_and_keeps_the_draws(number):
    def tell(news):
        if news.done == 40:
            os.kill(os.getpid(), number)

    former = signal.getsignal(number)
    draws = draw(num_draws=400, on_chunk=tell, interruptible=True)
    assert draws.interrupted
    assert signal.getsignal(number) is former
    np.testing.assert_array_equal(draws.positions, draw(num_draws=10).positions)


def test_ctrl_c_raises_where_nobody_asked_for_the_rest():
    def tell(news):
        os.kill(os.getpid(), signal.SIGINT)

    # A shell starts what runs in its background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            draw(on_chunk=tell)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ten_thousand_chains_at_once():
    draws = sample(
        jr.key(0),
        Normal(jnp.asarray(1.0)).log_densities,
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
        ({"thin": 0}, "thin is 0"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"step_size": float("nan")}, "step_size is nan"),
        ({"length": -1.0}, "length is -1.0"),
        ({"kernel": HMC(), "target": 0.7}, "target is given beside a kernel"),
        ({"until": Until(ess=10)}, "expected diagnose"),
        ({"until": Until(ess=10), "diagnose": counted, "keep": False}, "expected positions"),
        ({"summary": lambda u, _: {"positions": u[:, 0]}}, "'positions', which is taken"),
        ({"summary": lambda u, _: {"u": u}}, "expected a dictionary"),
    ],
)
def test_mistakes(settings, words):
    with pytest.raises(InputError, match=words):
        draw(**settings)


@pytest.mark.parametrize("target", [{"ess": 0}, {"rhat": 1.0}, {"seconds": float("nan")}])
def test_targets_that_cannot_be(target):
    with pytest.raises(InputError, match=next(iter(target))):
        Until(**target)


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
