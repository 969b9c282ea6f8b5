"""From a fitted scikit-learn object to one nearest-neighbour rule."""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skrobust.adapters._neighbors import EUCLIDEAN, neighbors_rule
from skrobust.adapters._pipelines import unwrap
from skrobust.adapters._rule import NearestNeighborRule
from skrobust.adapters._steps import active_steps, step_map
from skrobust.utils._floating_point import check_size, largest_value
from skrobust.utils._guard import guarded_dispatch
from skrobust.utils._sklearn import BaseSearchCV

__all__ = ["as_nearest_neighbor_rule"]


def _check_rule(rule: Any, estimator: Any) -> None:
    """Raise where a rule makes no sense, as it may where attributes were set after fit."""
    name = type(estimator).__name__
    if not isinstance(rule, NearestNeighborRule):
        raise TypeError(f"{name} must give a NearestNeighborRule; got {type(rule).__name__}.")
    K: Any = rule.n_neighbors
    n, classes = len(rule.points), rule.classes
    if not isinstance(K, (int, np.integer)) or K < 1:
        raise ValueError(f"n_neighbors of {name} must be an integer >= 1; got {K!r}.")
    if n < K:
        raise ValueError(f"n_neighbors={K} must be at most the number of training points, {n}.")
    used = np.isin(rule.labels, np.arange(len(classes)))
    if len(rule.labels) != n or not used.all():
        raise ValueError(
            f"{name} holds {n} points, {len(rule.labels)} labels and {len(classes)} classes that "
            "do not fit together; fit it again."
        )
    if not (classes[:-1] < classes[1:]).all():
        raise ValueError(
            f"classes_ of {name} must be sorted and different, as fit leaves them; got {classes!r}."
        )


@guarded_dispatch("_as_nearest_neighbor_rule", "predict", check=_check_rule)
def as_nearest_neighbor_rule(estimator: Any) -> NearestNeighborRule:
    """Fold a fitted classifier into one nearest-neighbour rule in raw feature space.

    Parameters
    ----------
    estimator : fitted KNeighborsClassifier, Pipeline, search object or FrozenEstimator
        k-NN with the Euclidean or a Mahalanobis metric and uniform weights, ``NearestCentroid``,
        ``KMeans`` or ``MiniBatchKMeans`` (whose classes are the clusters), behind affine steps. A
        type with a method ``_as_nearest_neighbor_rule()``, or one registered with
        ``as_nearest_neighbor_rule.register``, works as well.

    Returns
    -------
    NearestNeighborRule

    Raises
    ------
    TypeError
        If the object is no nearest-neighbour classifier, or replaces a method of the one that it
        inherits from, so that nothing is known of its predictions.
    ValueError
        If its metric, weights or data are not supported, or a step is not affine
        (``NotAffineError``, naming the step).
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust.adapters import as_nearest_neighbor_rule
    >>> X, y = load_iris(return_X_y=True)
    >>> rule = as_nearest_neighbor_rule(
    ...     make_pipeline(StandardScaler(), KNeighborsClassifier(3)).fit(X, y)
    ... )
    >>> rule.n_neighbors, rule.matrix.shape
    (3, (4, 4))
    """
    if hasattr(estimator, "_as_nearest_neighbor_rule"):
        return estimator._as_nearest_neighbor_rule()
    raise TypeError(
        f"{type(estimator).__name__} is not a nearest-neighbour classifier. Supported: a fitted "
        "KNeighborsClassifier, NearestCentroid or KMeans, alone or behind affine steps in a "
        "Pipeline."
    )


as_nearest_neighbor_rule.register(KNeighborsClassifier, neighbors_rule)


@as_nearest_neighbor_rule.register
def _(estimator: NearestCentroid) -> NearestNeighborRule:
    check_is_fitted(estimator)
    if estimator.metric not in EUCLIDEAN:
        raise ValueError(
            f"NearestCentroid(metric={estimator.metric!r}) is not supported; use 'euclidean'."
        )
    priors = getattr(estimator, "class_prior_", None)  # scikit-learn 1.6 and later
    if priors is not None and not np.isclose(priors, 1 / len(priors)).all():
        raise ValueError(
            f"NearestCentroid(priors={estimator.priors!r}) is not supported: it weighs "
            "distances by the classes' priors; use priors='uniform'."
        )
    return _nearest(estimator, estimator.centroids_, estimator.classes_)


@as_nearest_neighbor_rule.register(KMeans)
@as_nearest_neighbor_rule.register(MiniBatchKMeans)
def _(estimator: Any) -> NearestNeighborRule:
    check_is_fitted(estimator)
    centers = estimator.cluster_centers_
    return _nearest(estimator, centers, np.arange(len(centers)), expands=True)


@as_nearest_neighbor_rule.register
def _(estimator: Pipeline) -> NearestNeighborRule:
    check_is_fitted(estimator)
    rule = as_nearest_neighbor_rule(estimator.steps[-1][1])
    steps = active_steps(estimator.steps[:-1])
    maps = [step_map(name, step) for name, step in steps]
    return replace(
        rule,
        n_features_in=maps[0].matrix.shape[1] if maps else rule.n_features_in,
        steps=(*(step for _, step in steps), *rule.steps),
        maps=(*maps, *rule.maps),
        feature_names=getattr(estimator, "feature_names_in_", None),
    )


@as_nearest_neighbor_rule.register(BaseSearchCV)
@as_nearest_neighbor_rule.register(FrozenEstimator)
def _(estimator: Any) -> NearestNeighborRule:
    return as_nearest_neighbor_rule(unwrap(estimator))


def _nearest(
    estimator: Any, centers: np.ndarray, classes: np.ndarray, expands: bool = False
) -> NearestNeighborRule:
    """Return the rule of the nearest of a few points."""
    points, single = np.asarray(centers, dtype=np.float64), centers.dtype == np.float32
    check_size(points, largest_value(single))
    return NearestNeighborRule(
        points=points,
        magnitudes=np.linalg.norm(points, axis=1),
        labels=np.arange(len(points)),
        classes=classes,
        n_neighbors=1,
        n_features_in=estimator.n_features_in_,
        single=single,
        feature_names=getattr(estimator, "feature_names_in_", None),
        expands=expands,
    )
