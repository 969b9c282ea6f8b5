"""One face of all certificates: what is guaranteed of a fitted estimator."""

from typing import Any

import numpy as np
from sklearn.base import is_clusterer
from sklearn.pipeline import Pipeline

from skrobust.certificates import (
    CenterSmoothing,
    Certificate,
    RandomizedSmoothingClassifier,
    certify_lipschitz,
    certify_nearest_neighbors,
    exact_nearest_neighbor_radius,
)
from skrobust.threat_model import ThreatModel
from skrobust.victims import as_lipschitz_victim, as_nearest_neighbor_rule
from skrobust.victims._lipschitz import split_at, unwrapped, without_wrappers

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
        - The same behind an ``AdversarialDeepMetric(lipschitz="orthogonal")``, or behind a
          :class:`~skrobust.certificates.CenterSmoothing` of any embedding.
        - A :class:`~skrobust.certificates.RandomizedSmoothingClassifier`.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Points, in raw feature space.
    y : array-like of shape (n_samples,), default=None
        True labels: points that are predicted wrong have radius 0. None certifies the
        predictions themselves; it has to be None for a clusterer.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features. Smoothing has its own.
    method : {"auto", "fast", "exact", "bound", "smoothing"}, default="auto"
        "auto" is the exact radius for one neighbour, the lower bound for more neighbours and
        behind a network, and smoothing for what is smoothed; "fast" the same with the lower bound
        for one neighbour, too. The others ask for one proof, which has to apply.
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
    named = type(estimator).__name__
    inside = without_wrappers(estimator)
    last = inside.steps[-1][1] if isinstance(inside, Pipeline) else inside
    last = without_wrappers(last)
    if hasattr(last, "__sklearn_tags__") and is_clusterer(last) and y is not None:
        raise ValueError("y must be None for a clusterer, whose clusters are no classes.")
    predict, estimator = inside.predict, unwrapped(inside)
    if isinstance(estimator, RandomizedSmoothingClassifier):
        return _smoothing(estimator, X, y, threat_model, method, options)
    parts = split_at(estimator, lambda step: isinstance(step, CenterSmoothing))
    if parts is not None:
        labels = predict(X) if y is None else y
        return _center_smoothing(parts, X, labels, threat_model, method, options)
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
            f"{named}."
        )
    if as_lipschitz_victim(estimator) is not None:
        if method == "exact":
            raise ValueError(
                "method='exact' does not apply behind a network, whose bound may be larger than "
                "what it does near a point; use 'auto', 'fast' or 'bound'."
            )
        labels = predict(X) if y is None else y
        return certify_lipschitz(
            estimator, X, labels, threat_model=threat_model, exact=method == "auto", **options
        )
    try:
        rule = as_nearest_neighbor_rule(estimator)
    except TypeError as error:
        raise TypeError(
            f"no certificate applies to {named}: {error} Any classifier can be "
            "smoothed (RandomizedSmoothingClassifier), and then certified."
        ) from error
    labels = predict(X) if y is None else y
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


def _center_smoothing(
    parts: Any,
    X: Any,
    y: Any,
    threat_model: ThreatModel | None,
    method: str,
    options: dict[str, Any],
) -> Certificate:
    before, step, tail = parts
    if before:
        raise ValueError(
            f"CenterSmoothing has its noise behind the steps {[name for name, _ in before]}; put "
            "it around them: CenterSmoothing(make_pipeline(…))."
        )
    if method in ("exact", "bound"):
        raise ValueError(f"method={method!r} is not for smoothed embeddings; use 'smoothing'.")
    if threat_model is not None:
        raise ValueError(
            "threat_model must be None here: that of CenterSmoothing decided about its noise."
        )
    exact = method != "fast" and as_nearest_neighbor_rule(tail).n_neighbors == 1
    prove = exact_nearest_neighbor_radius if exact else certify_nearest_neighbors
    inner = prove(tail, step.transform(X), y, **options)
    radius = np.where(inner.radius > 0, step.certified_radius(X, inner.radius), 0.0)
    status = np.where(radius > 0, "probabilistic", "abstained").astype("<U13")
    kept = np.isin(inner.status, ("misclassified", "interrupted", "unreachable"))
    return Certificate(
        radius=radius,
        status=np.where(kept, inner.status, status),
        norm=2.0,
        method=f"center smoothing, each radius with probability {1 - step.alpha:g}",
        scale=step._scale,
        feature_names=getattr(step, "feature_names_in_", None),
        target=inner.target,
    )
