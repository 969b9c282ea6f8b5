"""What an adversary may change."""

from skrobust.threat_model._budget import FeatureBudget
from skrobust.threat_model._model import ThreatModel

__all__ = ["FeatureBudget", "ThreatModel"]
