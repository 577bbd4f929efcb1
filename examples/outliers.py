"""Find the digits of a class that was left out of the training data: a few minutes.

python examples/outliers.py [--quick]

A detector and a density are fitted to nine classes of scikit-learn's digits, and score held-out
images of these and all images of the tenth. AUROC: the chance that an outlier scores lower than an
inlier.
"""

import sys
import warnings

from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import tiltflow
from tiltflow.evaluation.chains import SamplingSettings
from tiltflow.learning import BackboneSettings, TiltSettings

warnings.filterwarnings("ignore", message=".*columns are constant")
quick = "--quick" in sys.argv  # for tests: everything runs, nothing is learned
settings = None
if quick:
    warnings.simplefilter("ignore", ConvergenceWarning)
    settings = tiltflow.Settings(
        backbone=BackboneSettings(steps=250),
        tilt=TiltSettings(steps=40, particles=128),
        sampling=SamplingSettings(chains=16, draws=20, exact_draws=10_000),
    )

x, label = load_digits(return_X_y=True)
print("class left out   detector   tilted   backbone   isolation forest")
for left_out in (0,) if quick else (0, 3, 8):
    inliers, outliers = x[label != left_out], x[label == left_out]
    train, held_out = train_test_split(inliers, test_size=0.3, random_state=0)
    detector = tiltflow.TiltedOutlierDetector(contaminated=False, random_state=0).fit(train)
    density = tiltflow.TiltedDensity(settings=settings, random_state=0).fit(train)
    forest = IsolationForest(random_state=0).fit(train)
    scores = (
        detector.score_samples,
        lambda rows, of=density.model_: of.log_prob(rows, normalizer=0.0),
        density.model_.backbone_log_prob,
        forest.score_samples,
    )
    truth = [1] * len(held_out) + [0] * len(outliers)
    found, tilted, backbone, isolated = (
        roc_auc_score(truth, [*score(held_out), *score(outliers)]) for score in scores
    )
    numbers = f"{found:>10.3f} {tilted:>8.3f} {backbone:>10.3f} {isolated:>18.3f}"
    print(f"{left_out:>14} {numbers}", flush=True)
