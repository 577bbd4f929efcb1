"""log Z = log E_q[exp f] with an interval, from nothing but the values of f.

These are NumPy functions in float64. What runs inside a training loop is
`tiltflow.normalizer.running`, imported by its own name because it brings JAX.
"""

from tiltflow.normalizer.bridge import bridge
from tiltflow.normalizer.estimate import LogZ
from tiltflow.normalizer.from_values import from_values
from tiltflow.normalizer.gain import Interval, gain, interval_of_mean, interval_of_nll
from tiltflow.normalizer.importance import importance

__all__ = [
    "Interval",
    "LogZ",
    "bridge",
    "from_values",
    "gain",
    "importance",
    "interval_of_mean",
    "interval_of_nll",
]
