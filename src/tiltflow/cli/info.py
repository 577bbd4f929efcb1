"""`tiltflow info [RUN]`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiltflow.cli.options import Json


def info(
    run: Annotated[
        Path | None, Parameter(help="A folder made by `tiltflow fit`; none: this machine.")
    ] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """Say what is in RUN, or, without RUN, what tiltflow runs on here."""
    from tiltflow.cli.show import flat, show_json, show_metrics, shown
    from tiltflow.runs import RunStore

    if run is not None:
        store = RunStore.open(run)
        show_metrics(store.metrics(), store.path, json=json)
        return 0
    values = _machine()
    if json:
        show_json(values)
    else:
        for key, value in flat(values):
            print(f"{key:<20} {shown(value)}")
    return 0


def _machine() -> dict[str, object]:
    import platform
    from importlib.metadata import version

    import jax

    from tiltflow._version import __version__

    packages = ("jax", "jaxlib", "equinox", "optax", "blackjax", "numpy")
    return {
        "tiltflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": ", ".join(str(device) for device in jax.devices()),
        **{name: version(name) for name in packages},
    }
