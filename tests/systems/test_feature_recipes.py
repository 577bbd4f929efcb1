"""S5, S8, S13: their tables pass and fail by their thresholds; slowly, the recipes and their twins.

A twin is a recipe with one thing broken, which its own table has to refuse.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tiltflow.evaluation.outliers.judge import MEASURES, Estimate


def interval(mean):
    return SimpleNamespace(mean=mean, low=mean - 0.1, high=mean + 0.1)


def of_s05(module, gain=3.0, ahead=0.01, above=0.1, without=8.0):
    auroc = {"tilted": 0.8 + ahead, "log q": 0.8, "without q": 0.6, "50-NN": 0.8, "energy": 0.7}
    one = {
        "gain": interval(gain),
        "verdict": {"status": "ok"},
        "above": above,
        "above without q": without,
        "auroc": dict.fromkeys(("unknown classes", "MNIST", "notMNIST"), auroc),
    }
    return module.claims([one, one], module.FULL["pass"])


def of_s08(module, accuracy=0.93, f=0.73, drawn=0.9):
    one = {
        "classes": SimpleNamespace(accuracy=interval(accuracy), calibration_error=0.02),
        "plain": 0.935,
        "auroc": {"f": f, "max softmax": 0.63, "energy": 0.64, "bound": 0.51},
        "gain": interval(3.0),
        "drawn": drawn,
    }
    return module.claims([one], module.FULL["pass"])


def of_s13(module, heat=0.3, both=0.05, gain=0.5):
    fpr = {"HEAT": heat, "mixture": 0.46, "f alone": 0.6, "50-NN": 0.07, "energy": 0.5}
    fpr |= {"HEAT + energy": both, "mixture + energy": 0.08, "max softmax": 0.7}
    behind = {name: Estimate(0.46 - heat, 0.44 - heat, 0.48 - heat) for name in MEASURES}
    told = {
        name: SimpleNamespace(fpr95=Estimate(x, x, x), auroc=Estimate(x, x, x), behind=behind)
        for name, x in fpr.items()
    }
    found = {"gain": interval(gain), "verdict": {"status": "ok"}, "sets": {"MNIST": told}}
    return module.claims(found, module.FULL["pass"])


FAKED = {
    "s05": (
        of_s05,
        [{"gain": 0.0}, {"ahead": -0.01}, {"ahead": -0.17}, {"above": 2.0}, {"without": 0.0}],
    ),
    "s08": (of_s08, [{"accuracy": 0.17}, {"f": 0.6}, {"drawn": 0.2}]),
    "s13": (of_s13, [{"heat": 0.45}, {"heat": 0.6}, {"both": 0.075}, {"gain": 0.0}]),
}


@pytest.mark.parametrize("name", FAKED)
def test_a_table_passes_as_the_recipe_says_and_fails_where_it_has_to(recipe, name):
    of, broken = FAKED[name]
    assert all(claim.passes for claim in of(recipe(name)))
    for numbers in broken:
        assert not all(claim.passes for claim in of(recipe(name), **numbers)), numbers


def test_what_is_in_is_what_is_found(recipe):
    """FPR95 is read at 95% of the rows that are in, where half of the others score as low."""
    module = recipe("s13")
    rng = np.random.default_rng(0)
    inside, outside = rng.uniform(0.0, 1.0, 1_000), rng.uniform(0.45, 1.45, 1_000)
    found = module.told_apart({"one": inside}, {"one": outside}, draws=10)["one"]
    assert abs(found.fpr95.value - 0.5) < 4.5 * 0.5 / np.sqrt(1_000)
    assert found.auroc.value > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", FAKED)
def test_the_quick_recipe_passes(recipe, name, tmp_path, capsys):
    path = tmp_path / "found.json"
    status = recipe(name).main(["--quick", "--json", str(path)])
    assert status == 0, capsys.readouterr().out
    rows = json.loads(path.read_text())
    assert {row["system"] for row in rows} == {f"S{int(name[1:])}"}
    assert sum(row["threshold"] is not None for row in rows) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("name", FAKED)
def test_its_twin_fails(recipe, name):
    """Negatives that are data; labels of other rows; columns of other rows."""
    module = recipe(name)
    sizes = module.QUICK
    if name == "s05":
        found = module.split(sizes, 0, broken=True)
        claims = module.claims([found], sizes["pass"])
        assert abs(found["gain"].mean) < 0.05
    elif name == "s08":
        found = module.split("digits", sizes, 0, broken=True)
        claims = module.claims([found], sizes["pass"])
        assert found["classes"].accuracy.mean < 0.5
        assert found["drawn"] < 0.5
    else:
        found = module.measured(sizes, 0, broken=True)
        claims = module.claims(found, sizes["pass"])
    assert not all(claim.passes for claim in claims)
