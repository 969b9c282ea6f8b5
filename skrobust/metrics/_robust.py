"""Summaries of what attacks found; every number is an upper bound on robustness."""

from typing import Any

import numpy as np

from skrobust.utils._validation import check_eps, check_radii
from skrobust.utils._weights import check_weight, weight_or_ones, weighted_mean

__all__ = ["attack_success_rate", "median_perturbation_norm", "robust_accuracy_score"]


def robust_accuracy_score(norm: Any, correct: Any, eps: Any, *, sample_weight: Any = None) -> Any:
    """Share of points that are right when clean and under the attack.

    ``mean(correct & (norm > eps))``, with `norm` the smallest perturbation that was found: an
    upper bound on the robust accuracy. At ``eps = 0`` it is the clean accuracy.

    Parameters
    ----------
    norm : array-like of shape (n_samples,)
        Norms of adversarial perturbations, inf where none was found
        (:attr:`skrobust.attacks.AttackResult.minimal_norm`).
    correct : array-like of bool of shape (n_samples,)
        Which clean predictions are right.
    eps : float or array-like of shape (n_eps,)
        Budgets, finite, ≥ 0.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; None counts all alike.

    Returns
    -------
    float, or ndarray of shape (n_eps,) for several budgets
        The mean over classes with ``sample_weight=compute_sample_weight("balanced", y)`` of
        scikit-learn.

    Examples
    --------
    >>> from skrobust.metrics import robust_accuracy_score
    >>> robust_accuracy_score([0.0, 0.2, 0.5, float("inf")], [False, True, True, True], 0.2)
    0.5
    """
    norm, correct = check_radii(norm, correct)
    weight, budgets = check_weight(sample_weight, len(norm)), check_eps(eps)
    shares = weighted_mean(correct & (norm > budgets[:, None]), weight)
    return float(shares[0]) if np.ndim(eps) == 0 else shares


def attack_success_rate(success: Any, correct: Any, *, sample_weight: Any = None) -> float:
    """Share of the points that were right when clean and are not under the attack.

    Parameters
    ----------
    success : array-like of bool of shape (n_samples,)
        Which points the attack changed from right to wrong.
    correct : array-like of bool of shape (n_samples,)
        Which clean predictions are right.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; None counts all alike.

    Returns
    -------
    float
        Over the right points only; NaN where none is right.

    Examples
    --------
    >>> from skrobust.metrics import attack_success_rate
    >>> attack_success_rate([True, False, False], [True, True, False])
    0.5
    """
    success, correct = np.asarray(success, dtype=bool), np.asarray(correct, dtype=bool)
    if success.shape != correct.shape or success.ndim != 1:
        raise ValueError(
            "success and correct must have the same shape (n_samples,); got "
            f"{success.shape} and {correct.shape}."
        )
    weight = _weight_of_right(correct, sample_weight)
    return float(weighted_mean(success, weight))


def median_perturbation_norm(norm: Any, correct: Any, *, sample_weight: Any = None) -> float:
    """Median size of the perturbation that a point needs, over the right points.

    Parameters
    ----------
    norm : array-like of shape (n_samples,)
        Norms of adversarial perturbations, inf where none was found.
    correct : array-like of bool of shape (n_samples,)
        Which clean predictions are right.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; None counts all alike.

    Returns
    -------
    float
        inf where the attack found nothing for half of them or more; NaN where none is right.

    Examples
    --------
    >>> from skrobust.metrics import median_perturbation_norm
    >>> median_perturbation_norm([0.1, 0.2, float("inf"), 0.0], [True, True, True, False])
    0.2
    """
    norm, correct = check_radii(norm, correct)
    weight = _weight_of_right(correct, sample_weight)
    if not weight.any():
        return float("nan")
    # of an even number the larger middle one: no mean with infinity
    order = np.argsort(norm, kind="stable")
    below = weight[order].cumsum()
    half = below[-1] / 2 * (1 + 1e-9)  # an exact half stays one in rounding
    return float(norm[order][np.searchsorted(below, half, side="right")])


def _weight_of_right(correct: np.ndarray, sample_weight: Any) -> np.ndarray:
    """Return weights of the right points, 0 for the others."""
    return np.where(correct, weight_or_ones(sample_weight, len(correct)), 0.0)
