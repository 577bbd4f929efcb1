"""Sample quality on named features: distances, nearest neighbours, shares of classes."""

from tiltflow.evaluation.quality.compare import Quality, quality
from tiltflow.evaluation.quality.features import Features, fashion_mnist, suited, values

__all__ = ["Features", "Quality", "fashion_mnist", "quality", "suited", "values"]
