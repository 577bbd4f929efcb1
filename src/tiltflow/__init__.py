"""Energy-based models as exponential tiltings of a flow: p(x) = exp(f(x)) q(x) / Z.

The public face. Names are imported when first used, so that `import tiltflow` does not load JAX.
"""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tiltflow._version import __version__
from tiltflow.errors import InputError

if TYPE_CHECKING:
    from tiltflow.arviz import to_arviz
    from tiltflow.data import Dataset
    from tiltflow.data import load as load_data
    from tiltflow.fitting.experiment import fit
    from tiltflow.fitting.judging import Result
    from tiltflow.fitting.posterior.kinds import (
        Angle,
        Correlation,
        Interval,
        Ordered,
        Positive,
        Real,
        Simplex,
    )
    from tiltflow.fitting.posterior.numpyro_model import from_numpyro
    from tiltflow.fitting.posterior.result import Posterior
    from tiltflow.fitting.posterior.run import posterior
    from tiltflow.fitting.settings import Settings
    from tiltflow.model.fitted import FittedModel
    from tiltflow.model.loading import load_model
    from tiltflow.model.log_normalizer import log_normalizer
    from tiltflow.model.tilted import TiltedModel
    from tiltflow.runs.draws import load_draws
    from tiltflow.sklearn import TiltedDensity, TiltedOutlierDetector

_HOMES = {
    "Angle": ("tiltflow.fitting.posterior.kinds", "Angle"),
    "Correlation": ("tiltflow.fitting.posterior.kinds", "Correlation"),
    "Dataset": ("tiltflow.data", "Dataset"),
    "FittedModel": ("tiltflow.model.fitted", "FittedModel"),
    "Interval": ("tiltflow.fitting.posterior.kinds", "Interval"),
    "Ordered": ("tiltflow.fitting.posterior.kinds", "Ordered"),
    "Positive": ("tiltflow.fitting.posterior.kinds", "Positive"),
    "Posterior": ("tiltflow.fitting.posterior.result", "Posterior"),
    "Real": ("tiltflow.fitting.posterior.kinds", "Real"),
    "Result": ("tiltflow.fitting.judging", "Result"),
    "Settings": ("tiltflow.fitting.settings", "Settings"),
    "Simplex": ("tiltflow.fitting.posterior.kinds", "Simplex"),
    "TiltedDensity": ("tiltflow.sklearn", "TiltedDensity"),
    "TiltedModel": ("tiltflow.model.tilted", "TiltedModel"),
    "TiltedOutlierDetector": ("tiltflow.sklearn", "TiltedOutlierDetector"),
    "fit": ("tiltflow.fitting.experiment", "fit"),
    "from_numpyro": ("tiltflow.fitting.posterior.numpyro_model", "from_numpyro"),
    "load_data": ("tiltflow.data", "load"),
    "load_draws": ("tiltflow.runs.draws", "load_draws"),
    "load_model": ("tiltflow.model.loading", "load_model"),
    "log_normalizer": ("tiltflow.model.log_normalizer", "log_normalizer"),
    "posterior": ("tiltflow.fitting.posterior.run", "posterior"),
    "to_arviz": ("tiltflow.arviz", "to_arviz"),
}

__all__ = [
    "Angle",
    "Correlation",
    "Dataset",
    "FittedModel",
    "InputError",
    "Interval",
    "Ordered",
    "Positive",
    "Posterior",
    "Real",
    "Result",
    "Settings",
    "Simplex",
    "TiltedDensity",
    "TiltedModel",
    "TiltedOutlierDetector",
    "__version__",
    "fit",
    "from_numpyro",
    "load_data",
    "load_draws",
    "load_model",
    "log_normalizer",
    "posterior",
    "to_arviz",
]

_MOVED = {
    "backbones.histogram": "backbones.units.histogram",
    "backbones.scale": "backbones.units.scale",
    "config": "fitting.config",
    "convolution": "backbones.convolution",
    "data_space": "model.data_space",
    "devices": "parallel.devices",
    "experiment": "fitting.experiment",
    "fitted": "model.fitted",
    "inpainting": "model.inpainting",
    "kernels": "model.kernels",
    "latent": "model.latent_chains",
    "mcmc.news": "mcmc.progress",
    "normalizer.log_normalizer": "model.log_normalizer",
    "processes": "parallel.processes",
    "settings": "fitting.settings",
    "specs": "model.specs",
    "tilted": "model.tilted",
}
"""Modules that the reference has named, and where they are now."""


class _Moved(MetaPathFinder, Loader):
    """Imports a module under its former name: the same module, and a warning."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _present(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        present = _present(spec.name)
        words = f"{spec.name} is {present} now: import it from there"
        warnings.warn(words, DeprecationWarning, stacklevel=2)
        module = importlib.import_module(present)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been imported under its present name, and keeps that."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def _present(fullname: str) -> str:
    """The present name of a module that has moved; empty for any other."""
    moved = _MOVED.get(fullname.removeprefix(f"{__name__}."))
    return f"{__name__}.{moved}" if moved else ""


sys.meta_path.append(_Moved())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tiltflow' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
