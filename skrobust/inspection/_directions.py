"""What is guaranteed from each class to each other one."""

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

from skrobust.certificates import certify_nearest_neighbors, exact_nearest_neighbor_radius
from skrobust.metrics import certified_accuracy_per_class
from skrobust.threat_model import ThreatModel
from skrobust.utils._frames import names_missed_once
from skrobust.utils._sklearn import safe_indexing
from skrobust.utils._validation import check_one_eps

__all__ = ["certified_directions"]


@names_missed_once()
def certified_directions(
    estimator: Any,
    X: Any,
    y: Any,
    eps: float,
    *,
    threat_model: ThreatModel | None = None,
    exact: bool = False,
    n_jobs: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Certified share of points by the class they are of and the class they must not become.

    Parameters
    ----------
    estimator : fitted k-NN classifier, alone or behind affine steps in a Pipeline
        See :func:`skrobust.adapters.as_nearest_neighbor_rule`.
    X : array-like of shape (n_samples, n_features)
        Points, in raw feature space.
    y : array-like of shape (n_samples,)
        True labels, all of them known to the estimator.
    eps : float
        Budget in the units of `X` over the threat model's scales; finite, ≥ 0.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    exact : bool, default=False
        Search exact radii instead of lower bounds.
    n_jobs : int, default=None
        Jobs for joblib.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The labels in `y`, sorted.
    share : ndarray of shape (n_classes, n_classes)
        ``share[s, t]``: of the points of class s, the share that is right and that no
        perturbation up to `eps` turns into class t; ``share[s, s]``: that nothing changes.
        Lower bounds on the truth.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.inspection import certified_directions
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = KNeighborsClassifier(1).fit(X[::2], y[::2])
    >>> classes, share = certified_directions(knn, X[1::2], y[1::2], eps=0.3)
    >>> share.round(2)
    array([[1.  , 1.  , 1.  ],
           [0.96, 0.68, 0.68],
           [0.92, 0.64, 0.64]])
    """
    budget = check_one_eps(eps)
    labels = column_or_1d(y)
    classes = np.unique(labels)
    certify = exact_nearest_neighbor_radius if exact else certify_nearest_neighbors
    options: dict[str, Any] = {"threat_model": threat_model, "n_jobs": n_jobs}
    anywhere = certify(estimator, X, labels, **options)
    share = np.diag(certified_accuracy_per_class(labels, anywhere.radius, anywhere.correct, budget))
    for t, target in enumerate(classes):
        rows = np.flatnonzero(labels != target)
        if not len(rows):
            continue
        others = safe_indexing(X, rows)
        certificate = certify(estimator, others, labels[rows], target=target, **options)
        # a proof that nothing changes is one that the target is not reached
        radius = np.maximum(certificate.radius, anywhere.radius[rows])
        certified = certified_accuracy_per_class(labels[rows], radius, certificate.correct, budget)
        share[np.arange(len(classes)) != t, t] = certified
    return classes, share
