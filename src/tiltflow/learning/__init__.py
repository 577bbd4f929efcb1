"""Learning: the backbone by maximum likelihood, then the tilt by one of two learners."""

from tiltflow.learning.fit_backbone import BackboneSettings, fit_backbone
# from tiltflow.learning.fit_tilt import TiltSettings, fit_tilt
from tiltflow.learning.rows import Rows

__all__ = ["BackboneSettings", "Rows", "fit_backbone"]
