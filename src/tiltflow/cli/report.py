"""`tiltflow report RUN`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiltflow.cli.options import Json


def report(
    run: Annotated[Path, Parameter(help="A folder made by `tiltflow fit`, finished or not.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Write RUN/report.html again: one page that opens offline."""
    from tiltflow.cli.show import show_json
    from tiltflow.report.page import write_report
    from tiltflow.runs import RunStore

    page = write_report(RunStore.open(run, whole=False).folder)
    if json:
        show_json({"report": str(page)})
    else:
        print(page)
    return 0
