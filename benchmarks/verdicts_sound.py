"""Sound fits for `verdicts.py`: real tables and drawn ones, of many kinds and sizes."""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from verdicts_broken import tilted_by
from verdicts_fits import ROWS, Case, bent, correlated, fitted, ring, small

FOLDER = Path(__file__).parents[1] / "../shared/data"


def normal(rows: int = ROWS, columns: int = 3, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def curved(rows: int = ROWS) -> np.ndarray:
    x = normal(rows)
    x[:, 1] = 0.5 * x[:, 1] + 0.7 * x[:, 0] ** 2
    return x


def three_clouds(rows: int = ROWS) -> np.ndarray:
    centres = np.array([[2.0, 0.0, 0.0], [-1.0, 1.7, 0.0], [-1.0, -1.7, 1.0]])
    return centres[np.random.default_rng(4).integers(3, size=rows)] + 0.7 * normal(rows)


def uniform(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, (rows, 3))


def gamma(rows: int = ROWS) -> np.ndarray:
    x = np.random.default_rng(6).gamma(3.0, size=(rows, 3))
    x[:, 2] += x[:, 0]
    return x


def lognormal(rows: int = ROWS) -> np.ndarray:
    return np.exp(0.5 * correlated(rows, 7, 0.5))


def student(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(8).standard_t(6, (rows, 3))


def counts(rows: int = ROWS) -> np.ndarray:
    rate = np.exp(1.5 + 0.4 * correlated(rows, 9, 0.6))
    return np.random.default_rng(10).poisson(rate).astype(np.int64)


def rounded(rows: int = ROWS) -> np.ndarray:
    return np.round(curved(rows) / 0.05) * 0.05


def moons(rows: int = ROWS) -> np.ndarray:
    x = datasets.make_moons(rows, noise=0.12, random_state=0)[0]
    return np.concatenate([x, 0.3 * normal(rows, 1) + x[:, :1]], axis=1)


def factors(rows: int = ROWS, columns: int = 6) -> np.ndarray:
    load = np.random.default_rng(11).normal(size=(2, columns))
    return normal(rows, 2) @ load + 0.5 * normal(rows, columns, 12)


def of_sklearn(name: str, columns: list[int]) -> np.ndarray:
    return getattr(datasets, f"load_{name}")().data[:, columns]


def small_digits() -> np.ndarray:
    """The digits at 4 x 4 pixels, each the sum of four."""
    images = datasets.load_digits().images.astype(int)
    return images.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(-1, 16)


def of_uci(folder: Path, name: str, columns: list[int], rows: int = 2_000) -> np.ndarray:
    with gzip.open(folder / "uci" / name / "data.csv.gz") as file:
        return np.loadtxt(file, delimiter=",", max_rows=rows)[:, columns]


def inliers(folder: Path, name: str, columns: list[int], rows: int = 2_000) -> np.ndarray:
    with np.load(folder / "adbench" / f"{name}.npz") as file:
        x = file["X"][file["y"] == 0]
    return x[np.random.default_rng(0).permutation(len(x))[:rows]][:, columns].astype(float)


def _how(backbone: str) -> dict[str, Any]:
    """How `fit` is told; `"apart"`: an ensemble, of columns whose atoms are set apart.

    These have values that a hundred rows share, and would be in doubt as they are.
    """
    if backbone == "apart":
        return {"settings": small("ensemble"), "atoms": "separate"}
    return {"settings": small(backbone)}


def sound_cases(folder: Path) -> list[Case]:
    """All of them; each real table that lies in `folder`."""
    uci, adbench = partial(of_uci, folder), partial(inliers, folder)
    six = list(range(6))
    rows: list[tuple[str, str, str, Callable[[], np.ndarray]]] = [
        ("normal", "coupling", "normal", normal),
        ("bent", "coupling", "a parabola and two bumps", lambda: bent(seed=5)),
        ("correlated", "coupling", "a correlated normal", lambda: correlated(seed=14)),
        ("few", "coupling", "100 rows of a normal", lambda: correlated(100, 13, 0.5)),
        ("student", "coupling", "Student's t, 6 degrees", student),
        ("large", "coupling", "10,000 rows", lambda: bent(10_000, 2)),
        ("iris", "ensemble", "three columns of iris", lambda: of_sklearn("iris", [0, 1, 2])),
        ("diabetes", "coupling", "three columns", lambda: of_sklearn("diabetes", [2, 3, 9])),
        ("ring", "ensemble", "a ring and two bumps", lambda: ring(seed=1)),
        ("clouds", "ensemble", "three clouds", three_clouds),
        ("box", "ensemble", "uniform in a box", uniform),
        ("tamielectric", "ensemble", "three columns of UCI",
         lambda: uci("tamielectric", [0, 1, 3])),
        ("counts", "ensemble", "counts", counts),
        ("moons", "ensemble", "two moons and a column behind", moons),
        ("gamma", "ensemble", "skewed columns", gamma),
        ("lognormal", "ensemble", "log-normal columns", lognormal),
        ("rounded", "ensemble", "a curved normal in steps of 0.05", rounded),
        ("factors", "ensemble", "six columns of two factors", factors),
        ("vertebral", "ensemble", "ADBench's inliers", lambda: adbench("39_vertebral", six)),
        ("Stamps", "ensemble", "ADBench's inliers",
         lambda: adbench("37_Stamps", [0, 2, 3, 4, 5, 7])),
        ("WDBC", "ensemble", "ADBench's inliers", lambda: adbench("43_WDBC", [0, 1, 4, 5, 8, 9])),
        ("pendigits", "apart", "ADBench's inliers", lambda: adbench("28_pendigits", six)),
        ("Pima", "ensemble", "ADBench's inliers", lambda: adbench("29_Pima", [0, 1, 2, 5, 6, 7])),
        ("breast cancer", "ensemble", "scikit-learn's",
         lambda: of_sklearn("breast_cancer", [0, 1, 4, 5, 8, 9])),
        ("wine", "ensemble", "scikit-learn's", lambda: of_sklearn("wine", [0, 1, 2, 5, 6, 9])),
        ("stock", "apart", "six columns of UCI", lambda: uci("stock", [3, 4, 5, 6, 7, 8])),
        ("pendulum", "ensemble", "six columns of UCI", lambda: uci("pendulum", [0, 1, 2, 3, 4, 9])),
        ("breastcancer", "ensemble", "six columns of UCI",
         lambda: uci("breastcancer", [2, 3, 4, 5, 6, 7])),
        ("digits", "ensemble", "the digits at 4 x 4 pixels", small_digits),
    ]  # fmt: skip
    return [
        Case(name, None, f"{what}, {backbone}", partial(fitted, rows_of, **_how(backbone)))
        for name, backbone, what, rows_of in rows
    ] + [Case("given", None, "a known model, its parts given", tilted_by)]
