"""Energy-based models as exponential tiltings of a flow: p(x) = exp(f(x)) q(x) / Z.

The public face. Names are imported when first used, so that `import tiltflow` does not load JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tiltflow._version import __version__
from tiltflow.errors import InputError

if TYPE_CHECKING:
    from tiltflow.arviz import to_arviz
    from tiltflow.data import Dataset
    from tiltflow.data import load as load_data
    from tiltflow.experiment import Result, fit
    from tiltflow.fitted import FittedModel, load_model
    from tiltflow.normalizer.log_normalizer import log_normalizer
    from tiltflow.runs.draws import load_draws
    from tiltflow.settings import Settings
    from tiltflow.sklearn import TiltedDensity, TiltedOutlierDetector
    from tiltflow.tilted import TiltedModel

_HOMES = {
    "Dataset": ("tiltflow.data", "Dataset"),
    "FittedModel": ("tiltflow.fitted", "FittedModel"),
    "Result": ("tiltflow.experiment", "Result"),
    "Settings": ("tiltflow.settings", "Settings"),
    "TiltedDensity": ("tiltflow.sklearn", "TiltedDensity"),
    "TiltedModel": ("tiltflow.tilted", "TiltedModel"),
    "TiltedOutlierDetector": ("tiltflow.sklearn", "TiltedOutlierDetector"),
    "fit": ("tiltflow.experiment", "fit"),
    "load_data": ("tiltflow.data", "load"),
    "load_draws": ("tiltflow.runs.draws", "load_draws"),
    "load_model": ("tiltflow.fitted", "load_model"),
    "log_normalizer": ("tiltflow.normalizer.log_normalizer", "log_normalizer"),
    "to_arviz": ("tiltflow.arviz", "to_arviz"),
}

__all__ = [
    "Dataset",
    "FittedModel",
    "InputError",
    "Result",
    "Settings",
    "TiltedDensity",
    "TiltedModel",
    "TiltedOutlierDetector",
    "__version__",
    "fit",
    "load_data",
    "load_draws",
    "load_model",
    "log_normalizer",
    "to_arviz",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tiltflow' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
