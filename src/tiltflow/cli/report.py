"""`tiltflow report RUN`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiltflow.cli.options import Json


def report(
    run: Annotated[
        Path,
        Parameter(help="A folder made by `tiltflow fit`, finished or not, or `posterior`."),
    ],
    /,
    *,
    json: Json = False,
) -> int:
    """Write RUN/report.html again: one page that opens offline.

    Of a run that is unfinished or has failed the page shows how far it has come, and why it
    stopped.
    """
    from tiltflow.cli.show import show_json
    from tiltflow.report.page import write_report
    from tiltflow.report.posterior_page import write_posterior_page
    from tiltflow.runs import RunStore
    from tiltflow.runs.posterior_folder import is_posterior
    from tiltflow.runs.store import EVENTS

    if not (run / EVENTS).is_file() and not is_posterior(run):
        RunStore.open(run, whole=False)  # says what is missing, and what may be meant
    page = write_posterior_page(run) if is_posterior(run) else write_report(run)
    if json:
        show_json({"report": str(page)})
    else:
        print(page)
    return 0
