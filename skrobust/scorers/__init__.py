"""Robustness as scorers: callables ``(estimator, X, y)`` for ``cross_validate`` and searches."""

from skrobust.scorers._certified import (
    certified_accuracy,
    certified_accuracy_scorer,
    certified_curve_scorer,
    mean_certified_radius_scorer,
)

__all__ = [
    "certified_accuracy",
    "certified_accuracy_scorer",
    "certified_curve_scorer",
    "mean_certified_radius_scorer",
]
