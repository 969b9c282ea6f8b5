"""Robustness as scorers: callables ``(estimator, X, y)`` for ``cross_validate`` and searches."""

from skrobust.scorers._certified import (
    certified_accuracy,
    certified_accuracy_scorer,
    certified_assignment_scorer,
    certified_curve_scorer,
    certified_retrieval_scorer,
    mean_certified_radius_scorer,
)
from skrobust.scorers._clustering import (
    reseeding_floor,
    robust_clustering_scorer,
    robust_clustering_scores,
)
from skrobust.scorers._robust import (
    make_robust_scorer,
    robust_accuracy_scorer,
    robust_curve_scorer,
    robust_recall_scorer,
)

__all__ = [
    "certified_accuracy",
    "certified_accuracy_scorer",
    "certified_assignment_scorer",
    "certified_curve_scorer",
    "certified_retrieval_scorer",
    "make_robust_scorer",
    "mean_certified_radius_scorer",
    "reseeding_floor",
    "robust_accuracy_scorer",
    "robust_clustering_scorer",
    "robust_clustering_scores",
    "robust_curve_scorer",
    "robust_recall_scorer",
]
