"""Linear metrics, learned to be certifiably robust."""

from skrobust.metric_learning._mahalanobis import MahalanobisMetric, MahalanobisMixin
from skrobust.metric_learning._robust_mahalanobis import RobustMahalanobis

__all__ = ["MahalanobisMetric", "MahalanobisMixin", "RobustMahalanobis"]
