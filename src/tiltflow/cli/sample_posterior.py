"""`tiltflow sample` on the folder of a density: draws as a table, or more of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiltflow.cli.status import FAILED

SECONDS = 600.0  # more, where there is no limit


def sample_posterior(
    run: Path,
    *,
    out: Path | None,
    draws: int | None,
    until: Any,
    seed: int,
    overwrite: bool,
    others: Mapping[str, bool],
    json: bool,
) -> int:
    """Go on with the run until its chains are as good as asked; write draws where asked.

    Args:
        run: the folder.
        out: a .npz, .csv or .parquet file, or None.
        draws: rows in it; None: all.
        until: an `Until`, or None: what is there is enough.
        seed: of the choice of rows.
        overwrite: whether `out` may be replaced.
        others: options of `tiltflow sample`, and whether they were given; here none of them can be.
        json: whether to print JSON.

    Returns:
        The exit status: 3 if the chains have not converged or not reached what was asked.
    """
    from tiltflow.cli.show import show_json
    from tiltflow.cli.show_posterior import show_posterior
    from tiltflow.errors import InputError
    from tiltflow.runs.posterior_folder import read_numbers
    from tiltflow.runs.row_tables import check_out

    given = [name for name, is_given in others.items() if is_given]
    if given:
        raise InputError(
            f"{given[0]} does not go with {run}, which holds the posterior of a density; expected "
            f"--until, --time-limit, --draws, --out or --seed"
        )
    if out is None and until is None:
        raise InputError(
            f"the draws of {run} are in {run / 'draws.npz'}; expected --until ess=NUMBER to make "
            f"more, or --out with a file to write them to"
        )
    if draws is not None and draws < 1:
        raise InputError(f"--draws is {draws}; expected at least 1")
    if out is not None:
        check_out(out, overwrite=overwrite, also=(".npz",))
    if until is not None:
        _go_on(run, until, json=json)
    told = read_numbers(run)
    if out is not None:
        _write(run, out, draws, seed)
    worst, missed = told["worst"], False
    if until is not None and until.targets:
        missed = not until.reached(worst["ess_bulk"], worst["rhat"])
    if json:
        show_json({"run": str(run), "out": None if out is None else str(out), **told})
    else:
        show_posterior(told, run)
        if missed and until is not None:
            print(f"The time was over before {until.targets} reached what --until asks for.")
        if out is not None:
            print(f"Draws are in {out}")
    return 0 if told["verdict"]["converged"] and not missed else FAILED


def _go_on(run: Path, until: Any, *, json: bool) -> None:
    from tiltflow.cli.progress import lines_to_terminal
    from tiltflow.errors import InputError
    from tiltflow.fitting.posterior.from_file import from_file
    from tiltflow.fitting.posterior.run import posterior
    from tiltflow.report.posterior_page import write_posterior_page
    from tiltflow.runs.posterior_folder import DENSITY, read_numbers
    from tiltflow.runs.reading import read_json

    if not (run / DENSITY).is_file():
        raise InputError(
            f"{run} does not say which density it is of; expected a folder that `tiltflow "
            f"posterior` has written: in Python, call tiltflow.posterior(out=..., ess=...) again"
        )
    asked = read_json(run / DENSITY)
    given = from_file(asked["density"])
    posterior(
        given,
        log_z_within=asked["log_z_within"],
        draws=asked["draws"],
        ess=until.ess or 0.0,
        rhat=until.rhat or 2.0,
        seconds=read_numbers(run)["seconds"] + (until.seconds or SECONDS),
        out=run,
        seed=asked["seed"],
        tell=lines_to_terminal(quiet=json),
    )
    write_posterior_page(run)


def _write(run: Path, out: Path, number: int | None, seed: int) -> None:
    import numpy as np

    from tiltflow.runs import atomic
    from tiltflow.runs.posterior_folder import columns_of, read_draws
    from tiltflow.runs.row_tables import writing_rows

    arrays = read_draws(run)
    total = arrays["log_density"].size
    rows = np.arange(total)
    if number is not None:
        rows = np.random.default_rng(seed).choice(total, number, replace=number > total)
    if out.suffix == ".npz":
        flat = {name: v.reshape(total, *v.shape[2:])[rows] for name, v in arrays.items()}
        atomic.write_arrays(out, flat)
        return
    columns = columns_of(arrays)
    columns["log_density"] = arrays["log_density"].ravel().astype(np.float64)
    with writing_rows(out, about={}) as table:
        table.write({name: column[rows] for name, column in columns.items()})
