"""The ladder's intervals cover truths in closed form and by quadrature, its bounds are bounds.

Each case runs under 24 seeds, with exact draws of p where chains would be, and in the slow tier
more cases under 200. Power twins: the wrong sign of f, draws of q in place of p, chains that lag,
and intervals half as wide.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial
from optimised import optimised

from tiltflow.errors import InputError
from tiltflow.normalizer import smc
from tiltflow.normalizer.annealed import LadderSettings, annealed

SEEDS = 24
QUICK = LadderSettings(particles=512, least_rounds=1, most_rounds=1)
CHAINS, DRAWS = 32, 32
WIDTH = 8  # of the cases that share a program


@pytest.fixture(scope="module", autouse=True)
def _optimised():
    """Hundreds of ladders by a few programs."""
    with optimised():
        yield


def half_square(u):
    return 0.5 * jnp.sum(u**2, axis=1)


def log_density_of(f, u):
    return f(u) - half_square(u)


def tilt(how, u):
    """Quadratic in the coordinates y = A u of a linear flow, and `waves` times `wavy`."""
    y = u @ how["matrix"].T
    return how["waves"] * wavy(u) - 0.5 * jnp.sum(how["a"] * (y - how["m"]) ** 2, axis=1)


def wavy(u):
    """Two ridges along a parabola."""
    return 2 * jnp.sin(2 * u[:, 0]) - 0.3 * (u[:, -1] - u[:, 0] ** 2) ** 2


def as_tilt(matrix, a, m, waves=0.0):
    how = {"matrix": matrix, "a": a, "m": m, "waves": waves}
    return Partial(tilt, {name: jnp.asarray(part, jnp.float32) for name, part in how.items()})


class Case:
    """A tilt f on R^dim, its true log Z, and exact draws of p."""

    def __init__(self, f, dim, log_z, draw):
        self.f, self.dim, self.log_z, self.draw = f, dim, log_z, draw
        self.log_density = Partial(log_density_of, f)

    def estimates(self, seeds, f=None, draw=None):
        log_density = self.log_density if f is None else Partial(log_density_of, f)
        found = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            draws = (draw or self.draw)(rng, CHAINS * DRAWS).astype(np.float32)
            draws = draws.reshape(CHAINS, DRAWS, self.dim)
            found.append(annealed(log_density, draws, key=jr.key(seed), settings=QUICK))
        return found


def gaussian(precision, linear):
    """log Z and draws of exp(-u'(P - I)u/2 + l'u) over N(0, I), P the `precision`."""
    cholesky = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, linear)
    log_z = 0.5 * linear @ mean - np.log(np.diag(cholesky)).sum()

    def draw(rng, number):
        noise = rng.standard_normal((number, len(linear)))
        return mean + np.linalg.solve(cholesky.T, noise.T).T

    return float(log_z), draw


def quadratic_case(matrix, a, m, width=0):
    """Of `width` coordinates if it is more than there are: f does not depend on the others."""
    more = max(0, width - len(a))
    a, m = (np.pad(part, (0, more)) for part in (a, m))
    matrix = np.block(
        [[matrix, np.zeros((len(matrix), more))], [np.zeros((more, len(matrix))), np.eye(more)]]
    )
    log_z, draw = gaussian(np.eye(len(a)) + matrix.T @ np.diag(a) @ matrix, matrix.T @ (a * m))
    log_z -= 0.5 * float(np.sum(a * m**2))
    return Case(as_tilt(matrix, a, m), len(a), log_z, draw)


def straight(dim, scale, width=0):
    """A different curvature and a different mean in every direction; some curvatures negative."""
    a = np.linspace(-0.5, 3.0, dim) * scale if dim > 1 else np.array([2.0])
    return quadratic_case(np.eye(dim), a, np.linspace(-1.5, 1.0, dim) * scale**0.5, width)


def flow_case(width=0):
    matrix = np.array([[1.0, 0.8, 0.0], [0.0, 0.7, -0.5], [0.3, 0.0, 1.2]])
    return quadratic_case(matrix, np.array([1.5, 0.5, -0.2]), np.full(3, 0.5), width)


def wavy_case(width=2):
    """log Z by quadrature, draws by rejection (f <= 2)."""
    grid = np.linspace(-9, 9, 721)
    u = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    log_mass = np.asarray(jax.jit(wavy)(jnp.asarray(u)), float) - (u**2).sum(1) / 2
    log_z = np.logaddexp.reduce(log_mass) - np.log(2 * np.pi) + 2 * np.log(grid[1] - grid[0])
    accept = jax.jit(wavy)

    def draw(rng, number):
        proposed = rng.standard_normal((20 * number, width)).astype(np.float32)
        kept = proposed[rng.uniform(size=len(proposed)) < np.exp(np.asarray(accept(proposed)) - 2)]
        assert len(kept) >= number
        return kept[:number]

    nothing = np.zeros(width)
    return Case(as_tilt(np.eye(width), nothing, nothing, waves=1.0), width, float(log_z), draw)


CASES = {"8": lambda: straight(8, 0.7), "flow": lambda: flow_case(WIDTH)}
MORE_CASES = {
    "1": lambda: straight(1, 1.0),
    "2": lambda: straight(2, 1.0),
    "8": lambda: straight(8, 0.7),
    "64": lambda: straight(64, 0.3),
    "256": lambda: straight(256, 0.15),
    "flow": flow_case,
    "wavy": wavy_case,
}


def covered(found, truth):
    return float(np.mean([z.low <= truth <= z.high for z in found]))


def errors(found, truth):
    """In standard errors."""
    return np.array([(z.mean - truth) / z.standard_error for z in found])


def as_wide_as_they_say(z):
    """Errors in standard errors have spread 1, within four of its own, and hardly a mean."""
    error = 1 / np.sqrt(len(z))
    return abs(z.std() - 1) < 4 * error / np.sqrt(2) and abs(z.mean()) < 0.4 + 4 * error


@pytest.mark.parametrize("name", sorted(CASES))
def test_intervals_are_as_wide_as_they_say_and_bounds_bound(name):
    case = CASES[name]()
    found = case.estimates(SEEDS)
    z = errors(found, case.log_z)
    assert as_wide_as_they_say(z)
    assert not as_wide_as_they_say(2 * z)  # power: errors half as large
    assert covered(found, case.log_z) >= 0.8
    assert np.mean([z.lower for z in found]) < case.log_z < np.mean([z.upper for z in found])
    assert np.mean([z.lower <= case.log_z <= z.upper for z in found]) >= 0.8
    assert np.mean([z.holds for z in found]) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MORE_CASES))
def test_intervals_cover_and_bounds_bound(name):
    case = MORE_CASES[name]()
    found = case.estimates(200)
    assert 0.92 <= covered(found, case.log_z) <= 0.98
    assert np.mean([z.lower for z in found]) < case.log_z < np.mean([z.upper for z in found])
    assert np.mean([z.lower <= case.log_z <= z.upper for z in found]) >= 0.93
    assert np.mean([z.holds for z in found]) >= 0.97
    # What 16 particles a group leave of bias is a fraction of one standard error.
    means = np.array([z.mean for z in found])
    assert abs(means.mean() - case.log_z) < 0.4 * means.std()


@pytest.fixture(scope="module")
def case():
    return straight(WIDTH, 0.7)


def changed(case, **parts):
    """The tilt of `case` with other `parts`, and the same program."""
    return as_tilt(**{**case.f.args[0], **parts})


def believed(found, truth):
    """The check that twins must fail: intervals cover, and hold."""
    return covered(found, truth) >= 0.8 and np.mean([z.holds for z in found]) >= 0.8


def test_the_check_passes_a_good_ladder(case):
    assert believed(case.estimates(10), case.log_z)


def test_power_the_wrong_sign_of_f_is_seen(case):
    wrong = changed(case, a=-0.2 * case.f.args[0]["a"])  # 0.2 keeps it proper
    found = case.estimates(10, f=wrong)
    assert not believed(found, case.log_z)
    assert not any(z.holds for z in found)  # the draws are not those of exp(-0.2 f) q


def test_power_swapped_directions_are_seen(case):
    def draws_of_q(rng, number):
        return rng.standard_normal((number, case.dim))

    found = case.estimates(10, draw=draws_of_q)
    assert not any(z.holds for z in found)
    assert np.mean([z.lower for z in found]) < case.log_z  # from below nothing has changed


def test_power_chains_that_lag_are_seen(case):
    a, m = (np.asarray(case.f.args[0][name], float) for name in ("a", "m"))

    def lagging(rng, number):
        slow = 0.3 * a
        return m * slow / (1 + slow) + rng.standard_normal((number, case.dim)) / np.sqrt(1 + slow)

    assert np.mean([z.holds for z in case.estimates(10, draw=lagging)]) <= 0.2


def test_one_program_serves_all_models_of_a_shape(case, monkeypatch):
    case.estimates(1)
    traced = []
    monkeypatch.setattr(smc.hmc, "step", lambda *a, **k: traced.append(1))  # only if compiled
    case.estimates(1, f=changed(case, a=0.5 * case.f.args[0]["a"]))
    assert not traced


@pytest.mark.slow  # it climbs all rungs there may be; a path that is too long is refused below
def test_an_f_that_is_too_large_is_refused(case):
    (found,) = case.estimates(1, f=changed(case, a=np.full(case.dim, 1e9)))
    assert not found.holds


def test_a_path_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(smc, "MOST_RUNGS", 2)  # read when a program is compiled
    with optimised(False):
        (found,) = straight(5, 1.0).estimates(1)
    assert not found.holds
    assert "2 rungs lead from the backbone only to beta = 0." in found.words


def test_an_f_that_is_not_a_number_is_refused(case):
    (found,) = case.estimates(1, f=changed(case, a=np.full(case.dim, np.nan)))
    assert not found.holds


def test_the_same_key_gives_the_same_numbers(case):
    assert [z.to_dict() for z in case.estimates(1)] == [z.to_dict() for z in case.estimates(1)]


def test_parts_of_the_particles_give_the_same_numbers(case):
    draws = case.draw(np.random.default_rng(0), CHAINS * DRAWS).astype(np.float32)
    draws = draws.reshape(CHAINS, DRAWS, -1)
    with optimised(False):  # each is run once
        whole, parts = (
            annealed(
                case.log_density, draws, key=jr.key(0), settings=replace(QUICK, at_once=at_once)
            )
            for at_once in (None, 100)
        )
    assert parts.holds
    # To rounding, but for a proposal at the edge that is accepted in one of them only.
    assert parts.mean == pytest.approx(whole.mean, abs=0.2 * whole.standard_error)


def test_a_number_of_particles_at_once_below_none_is_an_input_error(case):
    draws = np.zeros((CHAINS, 50, case.dim), np.float32)
    with pytest.raises(InputError, match="at_once is -1; expected a number of particles"):
        annealed(case.log_density, draws, key=jr.key(0), settings=LadderSettings(at_once=-1))


def test_few_chains_are_an_input_error(case):
    with pytest.raises(InputError, match="draws of 3 chains; expected at least 4"):
        annealed(case.log_density, np.zeros((3, 50, case.dim), np.float32), key=jr.key(0))


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        ({"tolerance": 10.0}, 2),
        ({"tolerance": 0.0, "most_rounds": 4}, 4),
        ({"tolerance": 0.0, "budget": 1e-3}, 1),
    ],
    ids=["tolerance", "most", "budget"],
)
def test_rounds_end_at_the_tolerance_or_the_budget(case, settings, rounds):
    draws = case.draw(np.random.default_rng(0), CHAINS * DRAWS).astype(np.float32)
    told = []
    annealed(
        case.log_density,
        draws.reshape(CHAINS, DRAWS, -1),
        key=jr.key(0),
        settings=LadderSettings(particles=512, **settings),
        on_round=lambda *fields: told.append(fields),
    )
    assert len(told) == rounds
    assert [fields[0] for fields in told] == list(range(1, rounds + 1))
