"""log Z = log E_q[exp f] with an interval, from nothing but the values of f.

These are NumPy functions in float64. What runs inside a training loop is
`tiltflow.normalizer.running`, imported by its own name because it brings JAX.
"""

from tiltflow.normalizer.bridge import bridge
from tiltflow.normalizer.estimate import LogZ
from tiltflow.normalizer.gain import Interval, gain, interval_of_nll
from tiltflow.normalizer.importance import importance
from tiltflow.normalizer.log_normalizer import log_normalizer

__all__ = [
    "Interval",
    "LogZ",
    "bridge",
    "gain",
    "importance",
    "interval_of_nll",
    "log_normalizer",
]
