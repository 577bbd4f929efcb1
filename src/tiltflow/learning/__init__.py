"""Learning: the backbone by maximum likelihood, then the tilt by one of two learners."""

from tiltflow.learning.fit_backbone import BackboneSettings, fit_backbone
from tiltflow.learning.fit_tilt import fit_tilt
from tiltflow.learning.rows import Rows
from tiltflow.learning.stages import Learner, Stage
from tiltflow.learning.state import TiltSettings

__all__ = [
    "BackboneSettings",
    "Learner",
    "Rows",
    "Stage",
    "TiltSettings",
    "fit_backbone",
    "fit_tilt",
]
