"""The parts of a posterior, each against what is known of it."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tiltflow import Positive, Real
from tiltflow.fitting.posterior.budget import Budget
from tiltflow.fitting.posterior.evidence import bridged, effective_share, halves_apart
from tiltflow.fitting.posterior.far_out import farthest_high
from tiltflow.fitting.posterior.flux import Flux, Middle, flux_of
from tiltflow.fitting.posterior.improvement import next_steps
from tiltflow.fitting.posterior.judgement import _rise
from tiltflow.fitting.posterior.modes import Regions, by_weight
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.probe import probed
from tiltflow.fitting.posterior.proposal import _learnable, _mixture_of, parted
from tiltflow.fitting.posterior.sides import farthest, tail_acceptance
from tiltflow.fitting.posterior.tailed import NORMAL, Tailed
from tiltflow.fitting.posterior.tempering import SHARE, Population, next_rise, resampled
from tiltflow.fitting.posterior.verdict import FARTHEST_OUT, Facts, judged
from tiltflow.learning.gaussian_mixture import GaussianMixture
from tiltflow.normalizer import LogZ
from tiltflow.normalizer.mean_error import of_chains


def common_rows(held, rest):
    return len({tuple(row) for row in held} & {tuple(row) for row in rest})


def test_what_is_held_out_of_a_fit_is_not_among_what_is_learned():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3))[rng.integers(0, 200, 900)]
    held, rest = parted(rows, rng)
    assert len(held) + len(rest) == 900
    assert 60 < len(held) < 180
    assert common_rows(held, rest) == 0
    # Power: rows that are parted by their number alone are in both.
    assert common_rows(*np.split(rows, [112])) > 20


def mixture():
    factors = np.stack([np.eye(2), np.array([[0.5, 0.0], [0.3, 0.2]])])
    means = np.array([[0.0, 0.0], [3.0, -1.0]])
    return Tailed(np.log([0.4, 0.6]), means, factors, np.array([2.5, NORMAL]))


def test_the_density_of_t_and_normal_components_is_scipys():
    tailed, z = mixture(), np.random.default_rng(0).normal(size=(20, 2)) * 3
    first = stats.multivariate_t(tailed.means[0], np.eye(2), 2.5).pdf(z)
    covariance = tailed.factors[1] @ tailed.factors[1].T
    second = stats.multivariate_normal(tailed.means[1], covariance).pdf(z)
    want = np.log(0.4 * first + 0.6 * second)
    np.testing.assert_allclose(tailed.log_prob(z), want, rtol=1e-4)
    compiled = tailed.compiled()
    found = [float(compiled(jnp.asarray(row, jnp.float32))) for row in z]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_draws_of_a_mixture_are_of_its_density():
    tailed = mixture()
    z = tailed.draws(np.random.default_rng(0), 20_000)
    # E_q[N(z; 0, I) / q(z)] = 1 only if z are draws of q.
    weights = np.exp(stats.multivariate_normal(np.zeros(2)).logpdf(z) - tailed.log_prob(z))
    error = weights.std() / math.sqrt(len(z))
    assert abs(weights.mean() - 1) < 4 * error
    assert abs(np.roll(weights, 1).mean() * 1.2 - 1) > 4 * error  # power


def test_the_next_rung_keeps_the_share_and_particles_without_mass_do_not_count():
    tilt = np.random.default_rng(0).normal(size=4_000) * 10
    rise = next_rise(np.append(tilt, [-np.inf] * 1_000), 1.0)
    weights = np.exp(rise * tilt)
    assert weights.sum() ** 2 / (weights**2).sum() / len(tilt) == pytest.approx(SHARE, abs=1e-3)
    assert next_rise(tilt / 1e3, 0.25) == 0.25


def test_resampling_is_by_weight():
    index = resampled(np.random.default_rng(0), np.log([0.1, 0.2, 0.3, 0.4]).repeat(250))
    assert np.bincount(index // 250) / 1_000 == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=2e-3)


def test_the_error_of_a_share_counts_families_and_not_particles():
    """Ten families of a hundred copies know a share as ten particles do."""
    ancestors = np.repeat(np.arange(10), 100)
    inside = (ancestors < 4).astype(float)
    population = Population("", np.zeros((1_000, 1)), ancestors, 0.0, 0.0, 1, 0.0, True)
    share, error = population.share_error(inside)
    assert share == pytest.approx(0.4)
    assert error == pytest.approx(math.sqrt(0.4 * 0.6 / 10), rel=0.05)


def test_a_density_of_zero_counts_as_no_mass():
    """Half of the proposal's draws are outside: Z is a half."""
    f_q = np.where(np.arange(4_000) % 2 == 0, 0.0, -np.inf)
    log_z = bridged(f_q, np.zeros((16, 50)), 7.0)
    assert log_z.mean == pytest.approx(7 - math.log(2), abs=0.01)
    assert log_z.holds
    assert effective_share(f_q) == pytest.approx(0.5)


def test_a_mode_that_one_population_lacks():
    labels = np.zeros((4, 10), int)
    sizes = np.array([1_000, 1_000])
    both = Regions(
        labels, np.array([0.7, 0.3]), np.zeros(2), np.array([[700, 300], [900, 100]]), sizes,
        np.array([0.7, 0.3]), np.zeros(2),
    )  # fmt: skip
    assert both.lacking == 0
    assert both._replace(particles=np.array([[700, 300], [1_000, 0]])).lacking == 1
    assert list(both._replace(particles=np.array([[700, 300], [1_000, 0]])).found_by) == [2, 1]


def regions_of_labels(labels):
    inside = [(labels == k).astype(float) for k in range(12)]
    shares = np.array([np.mean(one) for one in inside])
    errors = np.array([of_chains(one).variance ** 0.5 for one in inside])
    sizes = np.array([1_000, 1_000])
    return Regions(labels, shares, errors, np.zeros((2, 12), int), sizes, shares, errors)


def test_the_error_of_shares_is_the_total_variation_there_is():
    rng, off, told = np.random.default_rng(0), [], []
    for _ in range(30):
        found = regions_of_labels(rng.integers(0, 12, (64, 50)))
        off.append(0.5 * np.sum(np.abs(found.shares - 1 / 12)))
        told.append(found.expected_error)
    assert np.mean(told) == pytest.approx(np.mean(off), abs=4 * np.std(off) / 30**0.5)
    assert found.error_of(3_200) == pytest.approx(np.mean(told), rel=0.1)
    # Power: chains that stay at each draw for four transitions know less than so many draws.
    slow = regions_of_labels(np.repeat(rng.integers(0, 12, (64, 50)), 4, axis=1))
    assert slow.expected_error > 1.6 * slow.error_of(64 * 200)


def test_shares_by_weight_are_as_far_off_as_they_say():
    rng, off = np.random.default_rng(0), []
    for _ in range(60):
        labels = rng.integers(0, 2, 4_000)  # half of q in each part, of p 0.2 and 0.8
        f = np.log([0.4, 1.6])[labels] + rng.normal(scale=0.5, size=4_000)
        shares, errors = by_weight(f, labels, 3)
        off.append((shares[0] - 0.2) / errors[0])
    assert shares.sum() == pytest.approx(1.0)
    assert shares[2] == errors[2] == 0.0
    assert errors[0] == pytest.approx(errors[1])
    assert abs(np.mean(off)) < 4 / 60**0.5
    assert np.mean(np.square(off)) == pytest.approx(1.0, abs=4 * (2 / 60) ** 0.5)
    # Without noise the variance is 0.5 (0.4 0.8)^2 + 0.5 (1.6 0.2)^2 over the number of draws.
    plain = by_weight(np.log([0.4, 1.6])[labels], labels, 2)[1]
    assert plain == pytest.approx(math.sqrt(0.1024 / 4_000), rel=0.05)
    # Power: shares of the draws as they are are those of q.
    assert abs(np.mean(labels == 0) - 0.2) > 20 * errors[0]
    # Weights without a variance have no error.
    assert np.isnan(by_weight(2.0 * rng.standard_exponential(4_000), labels, 2)[1]).all()


def test_a_density_that_is_as_high_far_out_is_seen():
    """Ascents on a ridge; its twin is as far out and not as high."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((4_000, 3))
    value, far = -0.5 * np.sum(y**2, axis=1), np.array([[0.0, 0.0, 200.0], [0.0, 0.1, 0.0]])
    assert farthest_high(y, value, far, np.array([-2.0, 0.0])) > FARTHEST_OUT
    assert farthest_high(y, value, far, np.array([-30.0, 0.0])) < 1.0
    assert farthest_high(y, value, far[:1], np.array([-30.0])) == 0.0
    # A draw that has been there as well makes it none of those places.
    there = np.append(y, [[0.0, 0.0, 150.0]], axis=0)
    assert farthest_high(there, np.append(value, -2.0), far, np.array([-2.0, 0.0])) < 2.0


def test_mixtures_of_all_sizes_are_one_program_and_come_back_as_they_were():
    rng = np.random.default_rng(0)
    shapes = set()
    for number in (1, 4):
        factors = np.tril(rng.uniform(0.5, 1.5, (number, 2, 2)))
        weights = np.log(np.full(number, 1 / number))
        given = GaussianMixture(weights, rng.standard_normal((number, 2)), factors)
        learned = _learnable(given)
        shapes.add(learned.means.shape)
        z = rng.standard_normal((5, 2))
        found = [float(learned.log_prob(jnp.asarray(row, jnp.float32))) for row in z]
        np.testing.assert_allclose(found, given.log_prob(z), rtol=1e-4)
        for one, other in zip(_mixture_of(learned, number), given, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert len(shapes) == 1


GOOD = Facts(
    rhat=1.003, rhat_of="x", ess_bulk=2_000.0, ess_tail=2_000.0,
    log_z=LogZ(
        1.0, 0.005, 0.99, 1.01, "bridge", 5_000.0, 2_000.0, lower=0.98, upper=1.05, holds=True
    ),
    least=400.0,
    agreed=1.01,
    within=0.02, halves=1.0, sides=1.5, flux=Flux(0.5, 0.03), moving=0.9,
    pareto_k=0.3, effective=0.8, apart=0.1, far_out=1.1, shares=0.005, shared=0.015,
    lacking=0, outward=1.02, growth=1.0, rise=0.0,
    edge=0.0, edge_of="", nan=0.0, nan_of="", divergent=0.0, rounding=1e-6, gradient=0.0,
    unfinished="",
)  # fmt: skip
BROKEN = {
    "R-hat": ({"rhat": 1.04}, "caution"),
    "R-hat, far": ({"rhat": 1.2}, "failed"),
    "R-hat, near": ({"rhat": 1.015}, "draw more"),
    "R-hat, none": ({"rhat": math.nan}, "failed"),
    "ESS": ({"ess_tail": 300.0}, "draw more"),
    "log Z contradicts itself": ({"log_z": replace(GOOD.log_z, holds=False)}, "failed"),
    "few draws of p": ({"log_z": replace(GOOD.log_z, ess_p=99.0)}, "draw more"),
    "interval": ({"within": 0.001}, "draw more"),
    "halves": ({"halves": 4.5}, "caution"),
    "sides": ({"sides": 6.0}, "caution"),
    "flux": ({"flux": Flux(5.0, 0.05)}, "caution"),
    "flux, not known": ({"flux": Flux(0.5, 0.3)}, "draw more"),
    "stuck in a tail": ({"moving": 0.1}, "caution"),
    "tempering": ({"apart": 1.5}, "caution"),
    "as high far out": ({"far_out": 40.0}, "caution"),
    "shares": ({"shares": 0.02}, "draw more"),
    "modes": ({"lacking": 1}, "caution"),
    "tails": ({"pareto_k": 0.8}, "caution"),
    "tails, far": ({"pareto_k": 1.3}, "failed"),
    "outward": ({"outward": 1.5}, "caution"),
    "edge": ({"edge": 0.3, "edge_of": "p"}, "caution"),
    "nan": ({"nan": 0.1, "nan_of": "a"}, "caution"),
    "divergences": ({"divergent": 0.2}, "caution"),
    "rounding": ({"rounding": 0.1}, "caution"),
    "gradient": ({"gradient": 0.9}, "caution"),
    "unfinished": ({"unfinished": "tempering"}, "caution"),
}


def test_a_verdict_is_ok_only_if_nothing_is_broken():
    verdict = judged(GOOD, "2 populations")
    assert verdict.status == "ok"
    assert verdict.broken == ()


@pytest.mark.parametrize("name", BROKEN)
def test_each_reason_breaks_it(name):
    change, status = BROKEN[name]
    verdict = judged(replace(GOOD, **change), "2 populations")
    assert verdict.status == status
    assert len(verdict.broken) == 1
    check = verdict.broken[0]
    assert check.means
    assert check.try_
    assert check.name in verdict.words


def test_a_spread_that_grows_with_the_start_is_improper_unless_chains_say_otherwise():
    grown = replace(GOOD, growth=2.0)
    assert judged(grown, "").status == "ok"
    apart = judged(replace(grown, rhat=1.03), "")
    assert [c.name for c in apart.broken if c.severity == "failed"] == ["improper"]


def test_log_z_that_rises_from_look_to_look_is_improper_and_that_is_said_first():
    rise = _rise([4.0, 10.3, 9.9, 12.7, 13.9, 15.1])
    assert rise == pytest.approx(5.2)
    assert _rise([1.0, 9.0, 8.0, 9.0]) == 0.0  # power: once is chance
    risen = judged(replace(GOOD, rhat=1.3, ess_tail=90.0, moving=0.0, nan=0.1, rise=rise), "")
    assert risen.words.startswith("failed: improper")
    assert "proper prior" in risen.words
    assert "; and 1 more." in risen.words  # four of five are told
    assert "improper" not in judged(replace(GOOD, rhat=1.3, rise=1.0), "").words


def test_a_density_may_be_as_high_a_little_beyond_its_draws_and_not_twice_as_far():
    """Chains of bends have it up to 1.6 times as far; centred schools, which lack mass, at 2.2."""
    assert judged(replace(GOOD, far_out=1.7), "").status == "ok"
    assert judged(replace(GOOD, far_out=2.1), "").status == "caution"


def test_few_trajectories_may_break_off_and_not_a_tenth():
    """The limit is a tenth, which Rosenbrock's density needs; its twin is just beyond it."""
    assert judged(replace(GOOD, divergent=0.09), "").status == "ok"
    assert judged(replace(GOOD, divergent=0.11), "").status == "caution"


def test_a_budget_counts_and_keeps():
    budget = Budget(seconds=100.0, evaluations=1_000, tell=lambda line: None)
    budget.spend("probe", 600, "words")
    assert budget.used == 600
    assert budget.allows(1.0, 400)
    assert not budget.allows(1.0, 401)
    assert budget.keeps(0.4)
    assert not budget.keeps(0.5)
    assert not budget.allows(200.0, 0)


def test_the_field_points_outward_and_its_divergence_is_autodiffs():
    middle = Middle.of(mixture_of_three(), np.diag([2.0, 0.5]))
    w = jnp.asarray([0.75, -3.8])  # between two components
    _, turning = middle.outward(w)
    jacobian = jax.jacfwd(lambda w: middle.outward(w)[0])(w)
    np.testing.assert_allclose(turning, np.diag(jacobian), rtol=1e-3)
    assert np.abs(turning - 1).max() > 0.1
    far, _ = middle.outward(jnp.asarray([40.0, 0.0]))
    assert far[0] > 30


def mixture_of_three():
    """`mixture`, and the broad component behind it, which has no say in where the middle is."""
    two = mixture()
    return Tailed(
        np.append(two.log_weights + np.log(0.95), np.log(0.05)),
        np.concatenate([two.means, np.zeros((1, 2))]),
        np.concatenate([two.factors, 4 * np.eye(2)[None]]),
        np.array([NORMAL, NORMAL, 2.0]),
    )


def normal_flux(x):
    """Of a standard normal density with u = x: 1 - x^2, by chain and block."""
    return (1 - x**2).reshape(64, 20, -1).mean(axis=2, keepdims=True)


def test_draws_that_are_cut_off_have_a_flux():
    x = np.random.default_rng(0).standard_normal(64_000)
    whole = flux_of(normal_flux(x))
    assert whole.errors < 4
    assert whole.bound < 0.08
    short = np.where(x > 2.3, np.random.default_rng(1).permutation(x), x)
    cut = flux_of(normal_flux(np.minimum(short, 2.3)))
    assert cut.errors > 4


def test_a_flux_that_is_not_known_is_no_pass():
    """One draw without a finite gradient made all means NaN, and the check was passed."""
    means = normal_flux(np.random.default_rng(0).standard_normal(64_000))
    assert judged(replace(GOOD, flux=flux_of(means)), "").status == "ok"
    means[3, 4] = math.nan
    assert judged(replace(GOOD, flux=flux_of(means)), "").status == "caution"
    assert math.isnan(flux_of(np.zeros((64, 20, 1))).bound)


def test_a_narrow_component_far_off_leaves_the_field_finite():
    base = mixture_of_three()
    narrow = base._replace(factors=np.concatenate([1e-38 * np.eye(2)[None], base.factors[1:]]))
    at = jnp.asarray([7.0, -3.0])
    away, turning = Middle.of(narrow, np.eye(2)).outward(at)
    assert np.isfinite([away, turning]).all()


def two_sides(rng, lost):
    """Exact draws of a wide normal density, weighted, and chains of N(0, I) that lost a tail."""
    q = 1.5 * rng.standard_normal((20_000, 2))
    f_q = -0.5 * np.sum(q**2, axis=1) * (1 - 1 / 2.25)
    p = rng.standard_normal((64, 100, 2))
    p = np.where((p[..., :1] > lost), rng.standard_normal(p.shape).clip(max=lost), p)
    marks = (p[..., 1] > 0).astype(int)
    return farthest(q, f_q, p, (q[:, 1] > 0).astype(int), marks)


def test_shares_of_both_sides_agree_unless_a_tail_is_lost():
    assert two_sides(np.random.default_rng(0), np.inf) < 4
    assert two_sides(np.random.default_rng(0), 2.0) > 5


def test_halves_of_chains_that_drift_give_another_log_z():
    rng = np.random.default_rng(0)
    f_q, f_p = rng.normal(-0.5, 1, 8_000), rng.normal(0.5, 1, (64, 100))
    assert halves_apart(f_q, f_p) < 4
    assert halves_apart(f_q, f_p + np.linspace(-0.3, 0.3, 100)) > 4


def test_trajectories_that_are_refused_in_a_tail_are_seen():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((64, 200, 2))
    even = np.full((64, 200), 0.8)
    assert tail_acceptance(rows, even) == pytest.approx(1.0)
    stuck = even.copy()
    stuck[:, 1:][rows[:, :-1, 1] > 2.3] = 0.1
    assert tail_acceptance(rows, stuck) < 0.25
    # It is where a trajectory begins that counts, and not where it ends.
    late = even.copy()
    late[rows[..., 1] > 2.3] = 0.1
    assert tail_acceptance(rows, late) > 0.7


def test_bent_coordinates_count_their_slope():
    """The log-weight is the log-determinant that autodiff finds, and the way back leads back."""
    known = Parameters.of({"a": Real(), "b": Positive()})
    target = probed(lambda a, b: -(a**2) - b, known, None)
    target = target.placed(np.array([1.0, 0.5]), np.array([2.0, 0.3]), 0.0).bent(np.array([0.7, 0]))
    y = jnp.asarray([1.5, -0.4])
    jacobian = jax.jacfwd(lambda y: jnp.stack(list(target.values(y)[0].values())))(y)
    np.testing.assert_allclose(target.values(y)[1], np.linalg.slogdet(jacobian)[1], rtol=1e-5)
    rows = np.random.default_rng(0).normal(size=(9, 2)) * 3
    np.testing.assert_allclose(target.from_free(target.to_free(rows)), rows, rtol=1e-5, atol=1e-6)
    far = target.to_free(np.array([[20.0, 0.0], [0.0, 20.0]]))
    assert far[0, 0] > 1e5
    assert far[1, 1] < 10


@pytest.mark.parametrize(
    ("change", "converged"),
    [({}, True), ({"rhat": 1.015}, True), ({"rhat": 1.03}, False), ({"nan": 0.1}, True),
     ({"pareto_k": 1.3}, False)],
)  # fmt: skip
def test_chains_that_disagree_have_not_converged(change, converged):
    assert judged(replace(GOOD, **change), "").converged is converged


def mended(change):
    """What is done about a verdict where another fit has gained nothing."""
    chains: Any = SimpleNamespace(kept=[None] * 3, block=32, z=np.zeros((64, 2)), cost=100)
    state: Any = SimpleNamespace(
        chains=chains, budget=Budget(), drawn=6_144, matched=12_288, rounds=0, refits=2, effort=1,
        overlaps=[0.9, 0.9, 0.9], populations=[], helped=[],
        sizes=SimpleNamespace(exact=8_192, survey=100, warming=2),
    )  # fmt: skip
    facts = replace(GOOD, **change)
    found: Any = SimpleNamespace(verdict=judged(facts, ""), facts=facts)
    return next_steps(state, found)


def test_heavy_tails_are_drawn_from_again():
    """Pareto's k of few draws is uncertain: one above its limit was the end of a run."""
    sample, *rest = mended({"pareto_k": 0.8})
    assert sample[0] == "sample"
    assert sample[2] == 7
    assert rest == [["match"], ["judge"]]
    assert mended({}) == []


def test_shares_of_many_modes_are_drawn_for_and_a_ridge_is_not():
    sample, *_ = mended({"shares": 0.03})
    assert sample[2] == 12  # four times as many at most
    assert mended({"far_out": 40.0}) == []


def test_the_seconds_of_a_run_end_with_it():
    budget = Budget()
    budget.ended = budget.started + 2.0
    time.sleep(0.01)
    assert budget.elapsed == 2.0
