"""Summaries of certified radii."""

from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.utils._validation import check_eps, check_one_eps, check_radii
from skrobust.utils._weights import check_weight, weight_or_ones, weighted_mean

__all__ = ["certified_accuracy_per_class", "certified_accuracy_score", "mean_certified_radius"]


def certified_accuracy_score(
    radius: Any, correct: Any, eps: Any, *, sample_weight: Any = None
) -> Any:
    """Share of points that are right and stay right at every perturbation up to `eps`.

    ``mean(correct & (radius >= eps))``: a lower bound on robust accuracy where the radii are
    lower bounds. At ``eps = 0`` it is the clean accuracy.

    Parameters
    ----------
    radius : array-like of shape (n_samples,)
        Certified radii, ≥ 0, ``inf`` allowed.
    correct : array-like of bool of shape (n_samples,)
        Which clean predictions are right.
    eps : float or array-like of shape (n_eps,)
        Budgets in the units of the radii, finite, ≥ 0.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; None counts all alike.

    Returns
    -------
    float, or ndarray of shape (n_eps,) for several budgets
        The mean over classes with ``sample_weight=compute_sample_weight("balanced", y)`` of
        scikit-learn.

    Examples
    --------
    >>> from skrobust.metrics import certified_accuracy_score
    >>> certified_accuracy_score([0.0, 0.2, 0.5, 0.0], [True, True, True, False], 0.2)
    0.5
    """
    radius, correct = check_radii(radius, correct)
    weight, budgets = check_weight(sample_weight, len(radius)), check_eps(eps)
    shares = weighted_mean(correct & (radius >= budgets[:, None]), weight)
    return float(shares[0]) if np.ndim(eps) == 0 else shares


def certified_accuracy_per_class(
    y_true: Any, radius: Any, correct: Any, eps: float, *, sample_weight: Any = None
) -> np.ndarray:
    """Certified accuracy within each class.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    radius : array-like of shape (n_samples,)
        Certified radii, ≥ 0, ``inf`` allowed.
    correct : array-like of bool of shape (n_samples,)
        Which clean predictions are right.
    eps : float
        Budget in the units of the radii, finite, ≥ 0.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; None counts all alike.

    Returns
    -------
    ndarray of shape (n_classes,)
        In the order of ``np.unique(y_true)``: of each class, the share of points that are right
        and stay right at every perturbation up to `eps`; NaN where all its weights are 0.

    Examples
    --------
    >>> from skrobust.metrics import certified_accuracy_per_class
    >>> certified_accuracy_per_class(["a", "a", "b"], [0.1, 0.5, 0.9], [True, True, True], 0.2)
    array([0.5, 1. ])
    """
    radius, correct = check_radii(radius, correct)
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, radius)
    certified = correct & (radius >= check_one_eps(eps))
    weight = weight_or_ones(sample_weight, len(radius))
    rows = [y_true == label for label in np.unique(y_true)]
    return np.array([weighted_mean(certified[r], weight[r]) for r in rows])


def mean_certified_radius(
    radius: Any, *, cap: float | None = None, sample_weight: Any = None
) -> float:
    """Mean certified radius, with 0 for the points that are misclassified.

    Parameters
    ----------
    radius : array-like of shape (n_samples,)
        Certified radii, ≥ 0.
    cap : float, default=None
        Radii above it, infinite ones too, count as `cap`. Needed where a radius is infinite.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; None counts all alike.

    Returns
    -------
    float
        In the units of X.

    Raises
    ------
    ValueError
        If a radius is infinite and `cap` is None.

    Examples
    --------
    >>> from skrobust.metrics import mean_certified_radius
    >>> mean_certified_radius([0.0, 0.5, float("inf")], cap=1.0)
    0.5
    """
    radius, _ = check_radii(radius, np.ones(np.shape(radius), dtype=bool))
    weight = check_weight(sample_weight, len(radius))
    if weight is not None:
        radius, weight = radius[weight > 0], weight[weight > 0]
    if cap is not None:
        radius = np.minimum(radius, check_one_eps(cap, name="cap"))
    if np.isinf(radius).any():
        raise ValueError(
            f"cap must be given where radii are infinite ({int(np.isinf(radius).sum())} of "
            f"{len(radius)} are); got None."
        )
    return float(weighted_mean(radius, weight))
