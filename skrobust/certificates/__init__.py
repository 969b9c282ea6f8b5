"""Proofs that no perturbation below a radius changes a prediction: lower bounds on the truth."""

from skrobust.certificates._certify import METHODS, certify, certify_batches, certify_lipschitz
from skrobust.certificates._result import Certificate, SoundnessError
from skrobust.certificates._retrieval import certify_retrieval
from skrobust.certificates.nearest_neighbor._api import (
    certify_nearest_neighbors,
    certify_rule,
    exact_nearest_neighbor_radius,
    nearest_neighbor_lower_bound,
)
from skrobust.certificates.smoothing import CenterSmoothing, RandomizedSmoothingClassifier

__all__ = [
    "METHODS",
    "CenterSmoothing",
    "Certificate",
    "RandomizedSmoothingClassifier",
    "SoundnessError",
    "certify",
    "certify_batches",
    "certify_lipschitz",
    "certify_nearest_neighbors",
    "certify_retrieval",
    "certify_rule",
    "exact_nearest_neighbor_radius",
    "nearest_neighbor_lower_bound",
]
