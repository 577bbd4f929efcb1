"""`tiltflow info [RUN]`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiltflow.cli.options import Json

PACKAGES = (
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "blackjax",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
)


def info(
    run: Annotated[
        Path | None,
        Parameter(help="A folder made by `tiltflow fit` or `posterior`; none: this machine."),
    ] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """Say what is in RUN, or, without RUN, what tiltflow runs on here."""
    from tiltflow.cli.show import show_json, show_metrics
    from tiltflow.runs import RunStore
    from tiltflow.runs.posterior_folder import is_posterior, read_numbers

    if run is not None and is_posterior(run):
        from tiltflow.cli.show_posterior import show_posterior

        told = read_numbers(run)
        if json:
            show_json({**told, "run": str(run)})
        else:
            show_posterior(told, run)
        return 0
    if run is not None:
        store = RunStore.open(run)
        show_metrics(store.metrics(), store.path, json=json)
        return 0
    show_machine(json=json)
    return 0


def show_machine(*, json: bool) -> None:
    """Print versions and devices: what a report of a bug should hold."""
    from tiltflow.cli.show import flat, show_json, shown

    values = _machine()
    if json:
        show_json(values)
        return
    for key, value in flat(values):
        print(f"{key:<20} {shown(value)}")


def _machine() -> dict[str, object]:
    import platform
    from importlib.metadata import version

    from tiltflow._version import __version__

    return {
        "tiltflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": _devices(),
        **{name: version(name) for name in PACKAGES},
    }


def _devices() -> str:
    """What JAX would run on, or why it cannot."""
    import jax

    try:
        return ", ".join(str(device) for device in jax.devices())
    except RuntimeError as error:
        return f"none: {error}"
