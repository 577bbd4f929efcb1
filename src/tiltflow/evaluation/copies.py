"""Whether draws are copies of training images: each one's nearest training image, and numbers.

Distances are Euclidean, in data units. A draw that is a copy is nearer to a training image than
images that nobody has learned from are, so draws are held against held-out images in two ways.

- The share of draws nearer to the training images than the nearest 1% of held-out images (a test
  by distances to training rows after Meehan et al. 2020, arXiv 2004.05675, at the end where copies
  are). Which share chance gives is known exactly, whatever the distances' distribution.
- The share whose nearest training image is less than a third as far as the next one (Gu et al.
  2023, arXiv 2310.02664, section 2), which does not mind that smooth images are near to everything.

Neither sees a copy that is shifted, mirrored or dimmed, nor copies rarer than the draws looked at.
Training images that are there twice, or nearly, blind the second: what is near to one is as near to
the other, so of these it sees exact copies only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.stats import betabinom

from tiltflow.evaluation.quality.neighbours import squared_distances
from tiltflow.evaluation.report_arrays import TIMES, TRAVELLERS
from tiltflow.evaluation.subsample import evenly
from tiltflow.mcmc.draws import over_chains
from tiltflow.model.fitted import FittedModel

DRAWS, HELD_OUT = 256, 512  # that are searched for, at most
NEAREST = 0.01  # of the held-out images, nearer than which a draw is suspect
THIRD = 1 / 3  # of the distance to the second nearest, below which the nearest is a twin
PUSHED = TRAVELLERS * TIMES  # draws at a time: the program that pushes travelling chains does
SHOWN = 16  # draws most like copies, and as many others
PART = 2**22  # numbers of an array in memory


@dataclass(frozen=True, eq=False)
class Copies:
    """What `copies` returns.

    Attributes:
        metrics: the block `copies`.
        evidence: `copies_draws` and `copies_training`, images `[shown, *shape]` in pairs, those
            most like copies first; `copies_distance` `[draws]` and `copies_distance_held_out`
            `[held_out]`, to the nearest training image.
    """

    metrics: dict[str, Any]
    evidence: dict[str, np.ndarray]


def copies(
    fitted: FittedModel,
    positions: Float[np.ndarray, "chains draws ..."],
    held_out: Num[np.ndarray, "rows ..."],
    training: Num[np.ndarray, "rows ..."],
) -> Copies:
    """Search the training images for some draws of a model, and for held-out images.

    Draws of a generator are without its noise.

    Args:
        fitted: the model.
        positions: latent draws of its chains.
        held_out: images that it has not learned from, data units.
        training: all images that it has learned from, two at least.
    """
    some, _ = over_chains(positions, min(DRAWS, positions.shape[0] * positions.shape[1]))
    draws = np.concatenate(
        [fitted.push(some[i : i + PUSHED], noise=False) for i in range(0, len(some), PUSHED)]
    )
    held_out = np.asarray(held_out[:HELD_OUT])
    index, distance = nearest(np.concatenate([draws, held_out]), training)
    found, real = np.split(distance, [len(draws)])
    metrics = {
        "training": len(training),
        "draws": len(draws),
        "held_out": len(held_out),
        **compared(found, real),
    }
    order = np.argsort(_apart(found))
    shown, rest = order[:SHOWN], order[SHOWN:]
    order = np.concatenate([shown, rest[evenly(min(SHOWN, len(rest)), len(rest))]])
    evidence = {
        "copies_draws": draws[order],
        "copies_training": np.asarray(training[index[order, 0]], np.float32),
        "copies_distance": found[:, 0],
        "copies_distance_held_out": real[:, 0],
    }
    return Copies(metrics, evidence)


def compared(
    draws: Float[np.ndarray, "draws 2"], held_out: Float[np.ndarray, "rows 2"]
) -> dict[str, float]:
    """Numbers from the distances to the two nearest training images.

    Returns `distance` and `distance_held_out`, medians in data units; `nearer`, the share of draws
    nearer than the nearest 1% of held-out images (than the nearest one, of less than 100), and
    `nearer_by_chance`, what it would be on average were draws and held-out images alike;
    `nearer_p`, the chance of so many or more, were they independent, too; `twins` and
    `twins_held_out`, shares with a nearest image less than a third as far as the next.
    """
    number, rows = len(draws), len(held_out)
    rank = max(1, int(NEAREST * (rows + 1)))
    near = int(np.sum(draws[:, 0] < np.sort(held_out[:, 0])[rank - 1]))
    # A draw is below the rank-th of `rows` others with a probability that is Beta distributed.
    by_chance = betabinom(number, rank, rows + 1 - rank)
    return {
        "distance": float(np.median(draws[:, 0])),
        "distance_held_out": float(np.median(held_out[:, 0])),
        "nearer": near / number,
        "nearer_by_chance": rank / (rows + 1),
        "nearer_p": float(by_chance.sf(near - 1)),
        "twins": float(np.mean(_apart(draws) < THIRD)),
        "twins_held_out": float(np.mean(_apart(held_out) < THIRD)),
    }


def nearest(
    images: Num[np.ndarray, "n ..."], training: Num[np.ndarray, "rows ..."]
) -> tuple[Int[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """The two nearest training images of each image: their indices, and how far they are.

    Memory is that of a few arrays of PART numbers, whatever the number of training images, of which
    there have to be two. Candidates are found in single precision, their distances are then exact.
    """
    flat = np.asarray(images, np.float32).reshape(len(images), -1)
    centre = flat.mean(axis=0)  # about which squares are small, so that little cancels
    index = np.zeros((len(flat), 0), np.int64)
    squared = np.zeros((len(flat), 0), np.float32)
    part = max(1, PART // max(flat.shape))
    for start in range(0, len(training), part):
        rows = np.asarray(training[start : start + part], np.float32)
        apart = squared_distances(flat - centre, rows.reshape(len(rows), -1) - centre)
        for _ in range(min(2, len(rows))):
            best = apart.argmin(axis=1)[:, None]
            index = np.append(index, best + start, axis=1)
            squared = np.append(squared, np.take_along_axis(apart, best, axis=1), axis=1)
            np.put_along_axis(apart, best, np.inf, axis=1)
        kept = np.argsort(squared, axis=1, kind="stable")[:, :2]
        index, squared = (np.take_along_axis(x, kept, axis=1) for x in (index, squared))
    distance = np.empty(index.shape)
    for column, rows in enumerate(index.T):
        there = np.asarray(training[rows], np.float64).reshape(len(rows), -1)
        distance[:, column] = np.linalg.norm(flat - there, axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(distance, order, axis=1)


def _apart(distance: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """The distance to the nearest in that to the second: 0 for a copy, of one row or of two."""
    first, second = distance.T
    return np.divide(first, second, out=np.zeros_like(first), where=first != 0)
