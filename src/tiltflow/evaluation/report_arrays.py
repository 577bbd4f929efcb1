"""What the report draws: samples, travelling chains, traces, energies; arrays with names."""

import numpy as np
from jaxtyping import PRNGKeyArray

from tiltflow.data import Dataset
from tiltflow.diagnostics.convergence import autocorrelation
from tiltflow.evaluation.likelihood import Scores
from tiltflow.evaluation.mixing import Mixing
from tiltflow.mcmc.draws import Draws
from tiltflow.model.exact import exact_points
from tiltflow.model.fitted import FittedModel

SHOWN = 64  # samples of each kind, of images
SHOWN_ROWS = 1_000  # of tables
TRAVELLERS, TIMES = 8, 16  # chains that are followed, and how often each is looked at
TRACES, LAGS = 6, 100
MOST_F = 20_000


def gather_evidence(
    fitted: FittedModel,
    test: Dataset,
    draws: Draws,
    mixed: Mixing,
    scores: Scores,
    f_backbone: np.ndarray,
    *,
    key: PRNGKeyArray,
) -> dict[str, np.ndarray]:
    """The arrays of `evidence.npz`; shapes are said in `report/run_folder.py`.

    Samples of the tilted model are spread over all chains, and far apart within each; samples of
    a generator are without its noise.
    """
    shown = SHOWN if len(test.shape) > 1 else SHOWN_ROWS
    positions = np.asarray(draws.positions)
    chains, number = positions.shape[:2]
    latent_shape = positions.shape[2:]
    rounds = -(-shown // chains)
    spread = np.linspace(number - 1, 0, rounds + 1).astype(int)[:rounds]
    tilted = positions[:, spread].swapaxes(0, 1).reshape(-1, *latent_shape)[:shown]
    steps = max(1, min(number // TIMES, 10))
    travel = positions[:TRAVELLERS, : TIMES * steps : steps]
    f = np.asarray(draws.summaries["f"], np.float64)
    norm = np.asarray(draws.summaries["norm"], np.float64)
    latent = positions.reshape(chains, number, -1)
    worst = int(np.nanargmin(mixed.ess_bulk[: latent.shape[-1]]))
    lags = min(LAGS, number - 1)
    u = exact_points(fitted.model.backbone, key, shown)
    dim = latent.shape[-1]
    return {
        "data": test.values[:shown],
        "backbone": fitted.push(np.asarray(u), noise=False),
        "tilted": fitted.push(tilted, noise=False),
        "travel": fitted.push(travel, noise=False),
        "travel_steps": np.asarray(steps),
        "f_data": scores.f[:, 0],
        "f_tilted": f.ravel()[:: max(1, f.size // MOST_F)],
        "f_backbone": np.asarray(f_backbone)[:MOST_F],
        "trace_f": f[:TRACES],
        "trace_norm": norm[:TRACES],
        "autocorrelation_f": np.asarray(autocorrelation(f, lags)),
        "autocorrelation_norm": np.asarray(autocorrelation(norm, lags)),
        "autocorrelation_worst": np.asarray(autocorrelation(latent[..., worst], lags)),
        "rhat_latent": mixed.rhat[:dim],
        "ess_bulk_latent": mixed.ess_bulk[:dim],
    } | ({} if test.columns is None else {"columns": np.asarray(test.columns)})
