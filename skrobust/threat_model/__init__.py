"""What an adversary may change."""

from skrobust.threat_model._budget import FeatureBudget
from skrobust.threat_model._model import ThreatModel, model_or_l2

__all__ = ["FeatureBudget", "ThreatModel", "model_or_l2"]
