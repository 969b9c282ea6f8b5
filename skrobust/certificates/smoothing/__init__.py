"""Randomized smoothing, of classifiers and of embeddings."""

from skrobust.certificates.smoothing._classifier import RandomizedSmoothingClassifier
from skrobust.certificates.smoothing._embedding import CenterSmoothing

__all__ = [
    "CenterSmoothing",
    "RandomizedSmoothingClassifier",
]
