"""Reports and displays."""

from skrobust.inspection._certified_accuracy import CertifiedAccuracyDisplay
from skrobust.inspection._directions import certified_directions
from skrobust.inspection._finding import HealthFinding
from skrobust.inspection._health import evaluation_health
from skrobust.inspection._perturbation import PerturbationDisplay
from skrobust.inspection._ranking_report import RankingReport, ranking_report
from skrobust.inspection._report import RobustnessReport, SoundnessError, robustness_report
from skrobust.inspection._robustness_curve import RobustnessCurveDisplay

__all__ = [
    "CertifiedAccuracyDisplay",
    "HealthFinding",
    "PerturbationDisplay",
    "RankingReport",
    "RobustnessCurveDisplay",
    "RobustnessReport",
    "SoundnessError",
    "certified_directions",
    "evaluation_health",
    "ranking_report",
    "robustness_report",
]
