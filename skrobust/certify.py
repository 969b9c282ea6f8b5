"""One face of all certificates: what is guaranteed of a fitted estimator."""

from typing import Any

from sklearn.base import is_clusterer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skrobust.certificates import (
    Certificate,
    RandomizedSmoothingClassifier,
    certify_nearest_neighbors,
    exact_nearest_neighbor_radius,
)
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import BaseSearchCV
from skrobust.victims import as_nearest_neighbor_rule

__all__ = ["certify"]

_METHODS = ("auto", "fast", "exact", "bound", "smoothing")


def certify(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "auto",
    **options: Any,
) -> Certificate:
    """Certify points by the strongest proof that applies to an estimator.

    Parameters
    ----------
    estimator : fitted classifier or clusterer
        - A nearest-neighbour rule: k-NN with uniform weights, ``NearestCentroid``, ``KMeans``,
          the classifiers of :mod:`skrobust.neighbors`, :class:`skrobust.AdversarialClustering`;
          alone or behind affine steps in a Pipeline.
        - A :class:`~skrobust.certificates.RandomizedSmoothingClassifier`.
    X : array-like of shape (n_samples, n_features)
        Points, in raw feature space.
    y : array-like of shape (n_samples,), default=None
        True labels: points that are predicted wrong have radius 0. None certifies the
        predictions themselves; it has to be None for a clusterer.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features. Smoothing has its own.
    method : {"auto", "fast", "exact", "bound", "smoothing"}, default="auto"
        "auto" is the exact radius for one neighbour, the lower bound for more neighbours, and
        smoothing for what is smoothed; "fast" the same with the lower bound for one neighbour,
        too. The others ask for one proof, which has to apply.
    **options : dict
        Of the proof: :func:`~skrobust.certificates.exact_nearest_neighbor_radius` or
        :func:`~skrobust.certificates.certify_nearest_neighbors`.

    Returns
    -------
    Certificate
        `method` names the proof, `bound` its direction, and `status` tells for each point
        whether it is exact, a bound, or probabilistic.

    Raises
    ------
    TypeError, ValueError
        If no proof applies, or the one that is asked for does not; the message says why.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.certify import certify
    >>> X, y = load_iris(return_X_y=True)
    >>> for K in (1, 3):
    ...     found = certify(KNeighborsClassifier(K).fit(X[::2], y[::2]), X[1::2], y[1::2])
    ...     print(found.method, found.bound)
    exact 1-NN radius interval
    nearest-neighbor lower bound lower
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {list(_METHODS)}; got {method!r}.")
    while isinstance(estimator, (FrozenEstimator, BaseSearchCV)):
        inner = "estimator" if isinstance(estimator, FrozenEstimator) else "best_estimator_"
        if not hasattr(estimator, inner):
            raise ValueError(f"{type(estimator).__name__} must be fitted, with refit.")
        estimator = getattr(estimator, inner)
    if isinstance(estimator, RandomizedSmoothingClassifier):
        return _smoothing(estimator, X, y, threat_model, method, options)
    if isinstance(estimator, Pipeline) and isinstance(
        estimator.steps[-1][1], RandomizedSmoothingClassifier
    ):
        raise ValueError(
            "a Pipeline that ends with RandomizedSmoothingClassifier has its noise, and its radii, "
            "behind the other steps; put the smoothing around the Pipeline instead."
        )
    if method == "smoothing":
        raise ValueError(
            "method='smoothing' needs a RandomizedSmoothingClassifier around the classifier; got "
            f"{type(estimator).__name__}."
        )
    try:
        rule = as_nearest_neighbor_rule(estimator)
    except TypeError as error:
        raise TypeError(
            f"no certificate applies to {type(estimator).__name__}: {error} Any classifier can be "
            "smoothed (RandomizedSmoothingClassifier), and then certified."
        ) from error
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if is_clusterer(last) and y is not None:
        raise ValueError("y must be None for a clusterer, whose clusters are no classes.")
    labels = estimator.predict(X) if y is None else y
    exact = method == "exact" or (method == "auto" and rule.n_neighbors == 1)
    prove = exact_nearest_neighbor_radius if exact else certify_nearest_neighbors
    return prove(estimator, X, labels, threat_model=threat_model, **options)


def _smoothing(
    estimator: RandomizedSmoothingClassifier,
    X: Any,
    y: Any,
    threat_model: ThreatModel | None,
    method: str,
    options: dict[str, Any],
) -> Certificate:
    if method in ("exact", "bound"):
        raise ValueError(
            f"method={method!r} is for nearest-neighbour rules; a smoothed classifier has "
            "method='smoothing'."
        )
    if threat_model is not None:
        raise ValueError(
            "threat_model must be None here: that of RandomizedSmoothingClassifier decided about "
            "its noise."
        )
    if options:
        raise TypeError(f"smoothing has no options; got {sorted(options)}.")
    return estimator.certify(X, y)
