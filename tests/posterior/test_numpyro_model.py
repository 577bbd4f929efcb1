"""Models of NumPyro: their densities, kinds and priors, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import tiltflow
from tiltflow import Correlation, InputError, Interval, Ordered, Positive, Real, Simplex
from tiltflow.fitting.posterior.parameters import Parameters
from tiltflow.fitting.posterior.probe import probed
from tiltflow.fitting.posterior.target import values_at

numpyro = pytest.importorskip("numpyro")
dist = pytest.importorskip("numpyro.distributions")

Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
S = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def eight_schools(s, schools, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", schools):
        theta = numpyro.sample("theta", dist.Normal(0, 1))
        effect = numpyro.deterministic("effect", mu + tau * theta)
        numpyro.sample("y", dist.Normal(effect, s), obs=y)


def by_hand(mu, tau, theta):
    normal = -0.5 * jnp.sum(theta**2) - 0.5 * (mu / 5) ** 2 - jnp.log(5) - 4.5 * jnp.log(2 * jnp.pi)
    cauchy = jnp.log(2 / (5 * jnp.pi)) - jnp.log1p((tau / 5) ** 2)
    away = (Y - mu - tau * theta) / S
    return normal + cauchy + jnp.sum(-0.5 * away**2 - jnp.log(S) - 0.5 * jnp.log(2 * jnp.pi))


@pytest.fixture(scope="module")
def schools():
    return tiltflow.from_numpyro(eight_schools, S, 8, y=Y)


def test_its_density_is_the_one_written_by_hand(schools):
    assert schools.parameters == {"mu": Real(), "tau": Positive(), "theta": Real(8)}
    known, u = Parameters.of(schools.parameters), np.random.default_rng(0).normal(size=(4, 10))
    found = values_at(probed(schools.log_density, known, schools.data), u)
    want = values_at(probed(by_hand, known, None), u)
    np.testing.assert_allclose(found, want, rtol=1e-4)
    others = [schools.data[0], schools.data[1] + 1.0]
    assert np.abs(values_at(probed(schools.log_density, known, others), u) - want).min() > 1e-2


def test_its_prior_is_where_the_search_starts(schools):
    assert {name: v.shape[1:] for name, v in schools.start.items()} == {
        "mu": (), "tau": (), "theta": (8,),
    }  # fmt: skip
    mu = schools.start["mu"]
    assert len(mu) > 1_900
    assert abs(mu.std() / 5 - 1) < 4 / np.sqrt(2 * len(mu))
    assert schools.start["tau"].min() > 0


@pytest.mark.slow
def test_its_evidence_is_that_of_the_density_by_hand(schools):
    asked = {"evaluations": 60_000, "log_z_within": 0.05, "tell": lambda line: None}
    post = tiltflow.posterior(schools, **asked)
    hand = tiltflow.posterior(by_hand, schools.parameters, start=schools.start, **asked)
    assert post.verdict.status in ("ok", "draw more"), str(post)
    error = np.hypot(post.log_z.standard_error, hand.log_z.standard_error)
    assert abs(post.log_z.mean - hand.log_z.mean) < 4 * error


def test_supports_are_kinds():
    def model():
        numpyro.sample("p", dist.Beta(2, 2).expand([3]))
        numpyro.sample("u", dist.Uniform(-1, 4))
        numpyro.sample("w", dist.Dirichlet(jnp.ones(3)))
        numpyro.sample("r", dist.LKJ(3))
        numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
        rising = dist.transforms.OrderedTransform()
        numpyro.sample("o", dist.TransformedDistribution(dist.Normal(0, 1).expand([4]), rising))

    assert tiltflow.from_numpyro(model).parameters == {
        "p": Interval(0, 1, 3), "u": Interval(-1, 4), "w": Simplex(3), "r": Correlation(3),
        "x": Real(2), "o": Ordered(4),
    }  # fmt: skip


def discrete():
    numpyro.sample("k", dist.Poisson(3.0))


def dependent():
    numpyro.sample("b", dist.Uniform(0, numpyro.sample("a", dist.Exponential(1.0))))


def shifted():
    numpyro.sample("a", dist.TruncatedNormal(0.0, 1.0, low=2.0))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (discrete, "'k' is discrete"),
        (dependent, "the support of 'b' depends on other variables"),
        (shifted, "the support of 'a' is .*which no kind"),
        (lambda: None, "no latent variable"),
    ],
)
def test_what_has_no_kind_is_told_in_a_line(model, words):
    with pytest.raises(InputError, match=words) as found:
        tiltflow.from_numpyro(model)
    assert "\n" not in str(found.value)
