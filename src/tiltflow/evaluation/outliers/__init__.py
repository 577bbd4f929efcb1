"""Outliers: a score that needs no labels, baselines beside it, and what is found where labels are.

No score and no setting is chosen by looking at outliers.
"""

from tiltflow.evaluation.outliers.baselines import baselines, of_logits
from tiltflow.evaluation.outliers.judge import Judged, judged
from tiltflow.evaluation.outliers.score import OutlierScore, outlier_score

__all__ = ["Judged", "OutlierScore", "baselines", "judged", "of_logits", "outlier_score"]
