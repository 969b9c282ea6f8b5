"""Proofs that no perturbation below a radius changes a prediction: lower bounds on the truth."""

from skrobust.certificates._exact_knn import exact_nearest_neighbor_radius
from skrobust.certificates._knn import certify_nearest_neighbors, nearest_neighbor_lower_bound
from skrobust.certificates._randomized_smoothing import RandomizedSmoothingClassifier
from skrobust.certificates._result import Certificate

__all__ = [
    "Certificate",
    "RandomizedSmoothingClassifier",
    "certify_nearest_neighbors",
    "exact_nearest_neighbor_radius",
    "nearest_neighbor_lower_bound",
]
