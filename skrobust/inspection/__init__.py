"""Displays of robustness, in scikit-learn's manner."""

from skrobust.inspection._certified_accuracy import CertifiedAccuracyDisplay

__all__ = ["CertifiedAccuracyDisplay"]
