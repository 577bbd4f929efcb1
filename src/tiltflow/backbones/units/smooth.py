"""A smooth histogram of a column: a kernel estimate on a scale that follows its tails, and atoms.

The kernel works on asinh((x - median) / scale), where heavy and skewed tails are short, with the
bandwidth, a multiple of Silverman's (1986, eq. 3.31), that one half of the rows chooses for the
other. A wide normal on that scale, which weighs as much as two rows, leads beyond the data. Values
of a grid that many rows have are no part of it: each is a bin of its own, as wide as its cell.

The density is read off at knots that are close in mass and in normal scores, so that what comes out
is a histogram as any other (`histogram.py`).
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm

KNOTS, FEW_KNOTS = 120, 60  # about as many bins; and of what is left of a column with atoms
FARTHEST = 3.9  # the outermost knots, in standard deviations
FINE = 4_096  # places of the kernel estimate
MULTIPLES = (0.3, 0.6, 1.0)  # of Silverman's bandwidth
WIDE, ROWS = 4.0, 2.0  # the normal beyond the data: its width in theirs, and its rows
ATOM, MOST_ATOMS = 0.004, 32  # share of the rows that make an atom, and how many there are
FEWEST = 10  # rows of a kernel estimate
CLOSE = 0.01  # edges of an atom's cell and others that are no nearer than this share of it


def smooth_bins(
    exact: np.ndarray, spread: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Edges (`[bins + 1]`, increasing) and shares of the rows (`[bins]`, sum 1, all positive).

    Args:
        exact, spread: the values of a column, `[rows]`, and each of them somewhere in its cell.
        step: the width of the cells; 0 where the column has none.
    """
    atoms, counts = _atoms(exact, step)
    rest = spread[~np.isin(exact, atoms)]
    knots = FEW_KNOTS if len(atoms) else KNOTS
    edges, shares = _kernel(rest if len(rest) >= FEWEST else spread, knots)
    if len(atoms):
        edges, shares = _with_atoms(edges, shares, atoms, counts, step, len(exact))
    return edges, shares


def normal_bins(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `smooth_bins`, of a normal column: a map that is as good as linear."""
    scores = np.linspace(-FARTHEST, FARTHEST, KNOTS + 1)
    return _apart(column.mean() + column.std() * scores, _between(scores))


def _atoms(exact: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The values, increasing, that many rows have, and how many."""
    if step == 0:
        return np.zeros(0), np.zeros(0)
    values, counts = np.unique(exact, return_counts=True)
    most = np.sort(np.argsort(-counts, kind="stable")[:MOST_ATOMS])
    most = most[counts[most] >= max(ATOM * len(exact), 3)]
    return values[most], counts[most]


def _kernel(column: np.ndarray, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges and shares of the kernel estimate."""
    lower, median, upper = np.quantile(column, [0.25, 0.5, 0.75])
    scale = (upper - lower) / 1.349 or column.std()
    t = np.arcsinh((column - median) / scale)
    mean, deviation = t.mean(), t.std()
    far = FARTHEST * WIDE * deviation
    places = np.linspace(min(t.min(), mean - far), max(t.max(), mean + far), FINE + 1)
    width = places[1] - places[0]
    wide = ROWS * np.diff(norm.cdf(places, mean, WIDE * deviation))
    half_range = np.subtract(*np.quantile(t, [0.75, 0.25])) / 1.349
    rule = 0.9 * min(deviation, half_range or deviation) * len(t) ** -0.2 / width
    at = np.clip((t - places[0]) / width, 0, FINE - 1).astype(np.int64)

    def estimate(at: np.ndarray, bandwidth: float) -> np.ndarray:
        counts = np.bincount(at, minlength=FINE).astype(float)
        return (gaussian_filter1d(counts, bandwidth, mode="constant") + wide) / (len(at) + ROWS)

    left = np.random.default_rng(0).permutation(len(at)) < len(at) // 2
    wider = 2**0.2  # half of the rows
    score = {
        multiple: sum(
            np.mean(np.log(estimate(at[some], multiple * rule * wider)[at[~some]]))
            for some in (left, ~left)
        )
        for multiple in MULTIPLES
    }
    mass = estimate(at, max(score, key=lambda multiple: score[multiple]) * rule)
    below = np.concatenate([[0.0], np.cumsum(mass)])
    levels = _levels(knots)
    edges = median + scale * np.sinh(np.interp(levels, below / below[-1], places))
    return _apart(edges, levels)


def _levels(knots: int) -> np.ndarray:
    """Shares of the mass at the knots, from 0 to 1: half of them even, half as normal scores."""
    scores = _between(np.linspace(-FARTHEST, FARTHEST, knots // 2 + 1))
    levels = np.unique(np.concatenate([scores, np.linspace(0, 1, knots // 2 + 1)]))
    return levels[np.concatenate([[True], np.diff(levels) > 1e-9])]


def _between(scores: np.ndarray) -> np.ndarray:
    """The normal mass below each of the increasing scores, as a share of that between the ends."""
    below = norm.cdf(scores)
    return (below - below[0]) / (below[-1] - below[0])


def _apart(edges: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those edges that float32 tells from the one before, and the shares between them."""
    least = 2.0 * np.spacing(np.abs(edges).astype(np.float32))
    kept = [0]
    for place in range(1, len(edges)):
        if edges[place] - edges[kept[-1]] > least[place]:
            kept.append(place)
    if kept[-1] != len(edges) - 1:
        kept = [*kept[:-1], len(edges) - 1] if len(kept) > 1 else [0, len(edges) - 1]
    shares = np.diff(levels[kept])
    return edges[kept], shares / shares.sum()


def _with_atoms(
    edges: np.ndarray,
    shares: np.ndarray,
    atoms: np.ndarray,
    counts: np.ndarray,
    step: float,
    rows: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The same histogram of what is left, and a bin for each atom."""
    below = np.concatenate([[0.0], np.cumsum(shares)])
    away = (edges[:, None] - atoms) / step
    free = ~np.any((away > -CLOSE) & (away < 1 + CLOSE), axis=1)
    together = np.sort(np.concatenate([edges[free], atoms, atoms + step]))
    together = together[np.concatenate([[True], np.diff(together) > CLOSE * step])]
    left = (rows - counts.sum() + ROWS) / (rows + ROWS)
    cumulated = left * np.interp(together, edges, below)
    inside = np.clip((together[:, None] - atoms) / step, 0, 1)
    cumulated += inside @ counts / (rows + ROWS)
    shares = np.maximum(np.diff(cumulated), 1e-3 / rows / len(together))
    return together, shares / shares.sum()
