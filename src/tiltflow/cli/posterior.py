"""`tiltflow posterior model.py:log_density`."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tiltflow.cli.options import Json, Seed, seconds_of
from tiltflow.cli.status import FAILED


def posterior(
    density: Annotated[
        str,
        Parameter(
            help="A file and a function in it, as in `model.py:log_density`. The file may define "
            "`parameters` (kinds by name), `start` (draws or distributions), `data` and `gradient`."
        ),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="A folder for the run; the same line goes on with it.")],
    seconds: Annotated[
        str | None,
        Parameter(help="A time such as 300, 60s, 5m: the run ends within it; `none`: no limit."),
    ] = "600",
    evaluations: Annotated[
        int | None, Parameter(help="Of the log-density, at most, with or without its gradient.")
    ] = None,
    log_z_within: Annotated[
        float, Parameter(help="Half the width that the 95% interval of log Z may have, in nats.")
    ] = 0.02,
    draws: Annotated[int, Parameter(help="Of all chains, at least.")] = 4_000,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Draw from an unnormalised log-density of your own, and say what its integral is.

    Writes draws (`draws.npz`), numbers (`posterior.json`) and a page (`report.html`). The exit
    status is 3 if the verdict is failed or the chains have not converged. Interrupted or killed,
    the same line goes on from where it was.
    """
    from tiltflow.cli.progress import lines_to_terminal
    from tiltflow.cli.show import show_json
    from tiltflow.fitting.posterior.from_file import from_file
    from tiltflow.fitting.posterior.run import posterior as found_posterior
    from tiltflow.report.posterior_page import write_posterior_page
    from tiltflow.runs import atomic
    from tiltflow.runs.posterior_folder import DENSITY

    given = from_file(density)
    limit = None if seconds in (None, "none") else seconds_of(str(seconds), "--seconds")
    found = found_posterior(
        given,
        log_z_within=log_z_within,
        draws=draws,
        seconds=limit,
        evaluations=evaluations,
        out=out,
        seed=seed,
        tell=lines_to_terminal(quiet=json),
    )
    asked = {"log_z_within": log_z_within, "draws": draws, "seed": seed}
    atomic.write_json(out / DENSITY, {"density": _whole(density), **asked})
    page = write_posterior_page(out)
    if json:
        told: dict[str, Any] = {"run": str(out), "report": str(page), **found.to_dict()}
        show_json(told)
    else:
        print(found)
        print(f"\nLook at {page}")
    return 0 if found.verdict.converged else FAILED


def _whole(density: str) -> str:
    """`FILE:FUNCTION` as it is found from anywhere."""
    place, _, name = density.rpartition(":")
    return f"{Path(place).resolve()}:{name}"
