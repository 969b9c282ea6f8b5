"""Estimators of linear metrics."""

from skrobust.metric_learning._adam import AdamSolver
from skrobust.metric_learning._cvxpy import CvxpySolver
from skrobust.metric_learning._mahalanobis import MahalanobisMetric, MahalanobisMixin
from skrobust.metric_learning._problem import FitProblem
from skrobust.metric_learning._projected import ProjectedSolver
from skrobust.metric_learning._robust_mahalanobis import RobustMahalanobis
from skrobust.metric_learning._rounds import ConvexSolver
from skrobust.metric_learning._solver import Solver, SolverResult

__all__ = [
    "AdamSolver",
    "ConvexSolver",
    "CvxpySolver",
    "FitProblem",
    "MahalanobisMetric",
    "MahalanobisMixin",
    "ProjectedSolver",
    "RobustMahalanobis",
    "Solver",
    "SolverResult",
]
