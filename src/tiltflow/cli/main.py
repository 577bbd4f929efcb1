"""`tiltflow`: the commands, and the one place where errors become exit statuses.

0: done. 2: a mistake in the input, said in one line on standard error. 3: done, but the chains
have not converged, or the model is not sound. 130: interrupted, or a fit out of time.
"""

import io
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

import cyclopts

from tiltflow._version import __version__
from tiltflow.cli.broken_pipe import Unread
from tiltflow.cli.compare import compare
from tiltflow.cli.compiled import keep_compiled
from tiltflow.cli.complete import complete
from tiltflow.cli.data import app as data
from tiltflow.cli.diagnose import diagnose
from tiltflow.cli.fit import fit
from tiltflow.cli.info import info, show_machine
from tiltflow.cli.likelihood import likelihood
from tiltflow.cli.outliers import outliers
from tiltflow.cli.posterior import posterior
from tiltflow.cli.quality import quality
from tiltflow.cli.report import report
from tiltflow.cli.sample import sample
from tiltflow.cli.score import score
from tiltflow.cli.status import FAILED, INTERRUPTED, MISTAKE
from tiltflow.errors import InputError, Interrupted, UnsoundModel

app = cyclopts.App(
    name="tiltflow",
    help=(
        "Learn a density from data: a normalizing flow, corrected by an energy-based tilt, with "
        "Markov chains that mix and a likelihood with an interval.\n\n"
        "Start with: tiltflow fit digits --out runs/digits"
    ),
    version=__version__,
    help_format="markdown",
)
app.command(fit)
app.command(sample)
app.command(diagnose)
app.command(likelihood)
app.command(score)
app.command(complete)
app.command(outliers)
app.command(posterior)
app.command(quality)
app.command(report)
app.command(compare)
app.command(info)
app.command(data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an encoding that lacks a sign is no error
    sys.stdout, sys.stderr = (cast(TextIO, Unread(s)) for s in (sys.stdout, sys.stderr))
    keep_compiled()
    try:
        status = run(arguments)
    except Exception as error:
        if processes := _others():
            processes.fail(error)
        raise
    if processes := _others():
        processes.leave(status)
    sys.exit(status)


def _others() -> Any:
    """`tiltflow.parallel.processes`, if this is one of several."""
    processes = sys.modules.get("tiltflow.parallel.processes")
    return processes if processes is not None and processes.joined() else None


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    words, status = sys.argv[1:] if arguments is None else arguments, 0
    if sorted(words) == ["--json", "--version"]:
        show_machine(json=True)
        return 0
    try:
        status = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        words = " ".join(str(error).split())
        print(f"tiltflow: {words} Try `tiltflow --help`.", file=sys.stderr)
        return MISTAKE
    except InputError as error:
        print(f"tiltflow: {error}", file=sys.stderr)
        return FAILED if isinstance(error, UnsoundModel) else MISTAKE
    except Interrupted as stop:
        processes = _others()
        if processes is None or processes.is_first():
            print(f"tiltflow: {stop}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("tiltflow: interrupted; what is on disk is whole.", file=sys.stderr)
        if processes := _others():
            processes.leave(INTERRUPTED, alone=True)
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        from tiltflow.parallel.devices import too_large

        if not (words := too_large(error)):
            raise
        print(f"tiltflow: {words}", file=sys.stderr)
        return MISTAKE
    return status if isinstance(status, int) else 0
