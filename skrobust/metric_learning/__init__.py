"""Estimators of linear metrics."""

from skrobust.metric_learning._adam import AdamSolver
from skrobust.metric_learning._cvxpy import CvxpySolver
from skrobust.metric_learning._mahalanobis import MahalanobisMetric, MahalanobisMixin
from skrobust.metric_learning._projected import ProjectedSolver
from skrobust.metric_learning._robust_mahalanobis import RobustMahalanobis

__all__ = [
    "AdamSolver",
    "CvxpySolver",
    "MahalanobisMetric",
    "MahalanobisMixin",
    "ProjectedSolver",
    "RobustMahalanobis",
]
