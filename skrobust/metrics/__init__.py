"""Numbers from arrays: plain functions."""

from skrobust.metrics._certified import (
    certified_accuracy_score,
    certified_recall_score,
    mean_certified_radius,
)

__all__ = ["certified_accuracy_score", "certified_recall_score", "mean_certified_radius"]
