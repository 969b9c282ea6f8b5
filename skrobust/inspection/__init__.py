"""Reports and displays."""

from skrobust.inspection._certified_accuracy import CertifiedAccuracyDisplay
from skrobust.inspection._directions import certified_directions
from skrobust.inspection._health import HealthFinding, evaluation_health
from skrobust.inspection._report import RobustnessReport, SoundnessError, robustness_report

__all__ = [
    "CertifiedAccuracyDisplay",
    "HealthFinding",
    "RobustnessReport",
    "SoundnessError",
    "certified_directions",
    "evaluation_health",
    "robustness_report",
]
