"""Displays of robustness, in scikit-learn's manner."""

from skrobust.inspection._certified_accuracy import CertifiedAccuracyDisplay
from skrobust.inspection._directions import certified_directions

__all__ = ["CertifiedAccuracyDisplay", "certified_directions"]
