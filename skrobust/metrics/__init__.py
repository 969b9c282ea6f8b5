"""Numbers from arrays: plain functions."""

from skrobust.metrics._certified import (
    certified_accuracy_per_class,
    certified_accuracy_score,
    mean_certified_radius,
)
from skrobust.metrics._clustering import clustering_scores, pairwise_f1
from skrobust.metrics._embedding import embedding_density, spectral_decay
from skrobust.metrics._ers import empirical_robustness_score
from skrobust.metrics._retrieval import mean_average_precision_at_r, r_precision, recall_at_k
from skrobust.metrics._robust import (
    attack_success_rate,
    median_perturbation_norm,
    robust_accuracy_score,
)
from skrobust.metrics._verification import equal_error_rate, tar_at_far, verification_threshold

__all__ = [
    "attack_success_rate",
    "certified_accuracy_per_class",
    "certified_accuracy_score",
    "clustering_scores",
    "embedding_density",
    "empirical_robustness_score",
    "equal_error_rate",
    "mean_average_precision_at_r",
    "mean_certified_radius",
    "median_perturbation_norm",
    "pairwise_f1",
    "r_precision",
    "recall_at_k",
    "robust_accuracy_score",
    "spectral_decay",
    "tar_at_far",
    "verification_threshold",
]
