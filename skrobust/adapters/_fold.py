"""From a fitted scikit-learn object to one nearest-neighbour rule."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skrobust.adapters._rule import NearestNeighborRule
from skrobust.adapters._steps import active_steps, step_map
from skrobust.utils._floating_point import DOUBLE, check_size, largest_value
from skrobust.utils._guard import guarded_dispatch
from skrobust.utils._sklearn import BaseSearchCV, knn_training_data

__all__ = ["as_nearest_neighbor_rule"]

_EUCLIDEAN = ("euclidean", "l2", "sqeuclidean")
_TRIED = 8  # training points whose distances a search tree is asked for


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


@as_nearest_neighbor_rule.register
def _(estimator: KNeighborsClassifier) -> NearestNeighborRule:
    check_is_fitted(estimator)
    if estimator.weights not in ("uniform", None):
        raise ValueError(
            f"KNeighborsClassifier(weights={estimator.weights!r}) is not supported: proofs, and "
            "attacks that look at neighbours, count them, and do not know a vote weighted by "
            "distances; use weights='uniform', or an attack such as PGD or HopSkipJump."
        )
    X, y = knn_training_data(estimator)
    if sparse.issparse(X):
        raise ValueError("KNeighborsClassifier was fitted on sparse data; fit it on a dense array.")
    if y.ndim != 1:
        raise ValueError("KNeighborsClassifier has several outputs; only one is supported.")
    single = np.asarray(X).dtype == np.float32  # or a tree's own points, of no dtype
    points, root = np.asarray(X, dtype=np.float64), _metric_root(estimator)
    if not _still_fitted(estimator):
        raise ValueError(
            f"KNeighborsClassifier(metric={estimator.metric!r}, p={estimator.p!r}, metric_params="
            f"{estimator.metric_params!r}) is not supported: it was fitted with another metric, "
            "and its predictions follow now one, now the other; fit it again."
        )
    check_size(points, largest_value(single))
    _check_tree(estimator, points, root)
    return NearestNeighborRule(
        points=points if root is None else points @ root.T,
        magnitudes=np.linalg.norm(points, axis=1) * (1 if root is None else np.linalg.norm(root)),
        labels=np.asarray(y, dtype=np.int64),
        classes=estimator.classes_,
        n_neighbors=estimator.n_neighbors,
        n_features_in=points.shape[1],  # also of a tree that fit was given
        single=single,
        metric_root=root,
        feature_names=getattr(estimator, "feature_names_in_", None),
        pruning=_pruning(estimator._fit_method, points.shape[1], root),
    )


@as_nearest_neighbor_rule.register
def _(estimator: NearestCentroid) -> NearestNeighborRule:
    check_is_fitted(estimator)
    if estimator.metric not in _EUCLIDEAN:
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


@as_nearest_neighbor_rule.register
def _(estimator: BaseSearchCV) -> NearestNeighborRule:
    check_is_fitted(estimator)
    if not hasattr(estimator, "best_estimator_"):
        raise ValueError(f"{type(estimator).__name__} must be fitted with refit; got refit=False.")
    return as_nearest_neighbor_rule(estimator.best_estimator_)


@as_nearest_neighbor_rule.register
def _(estimator: FrozenEstimator) -> NearestNeighborRule:
    return as_nearest_neighbor_rule(estimator.estimator)


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


def _check_tree(estimator: KNeighborsClassifier, points: np.ndarray, root: Any) -> None:
    """Raise where a search tree is of other points than those there are, or measures otherwise.

    A tree may hold a copy of the points, or the points themselves, which were moved out of its
    nodes; one that was given to `fit` has its own metric.
    """
    tree = getattr(estimator, "_tree", None)
    if tree is None:
        return
    same = np.array_equal(np.asarray(tree.data), points)
    few = points[:: max(1, len(points) // _TRIED)][:_TRIED]
    found, rows = tree.query(few, k=min(len(points), _TRIED**2))
    apart = few[:, None] - points[rows]
    if root is not None:
        apart = apart @ root.T
    expected = np.linalg.norm(apart, axis=2)
    if same and not np.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.max())):
        raise ValueError(
            f"{type(estimator).__name__} was fitted on a search tree with another metric than "
            f"metric={estimator.metric!r}; fit it on the points."
        )
    if not same or _left_nodes(tree, points, root):
        raise ValueError(
            f"the training points of {type(estimator).__name__} were changed in place after fit, "
            "and its search tree knows the old ones; fit it again, on a copy."
        )


def _left_nodes(tree: Any, points: np.ndarray, root: Any) -> bool:
    """Return whether a point lies outside a node of the tree that holds it."""
    _, order, nodes, bounds = map(np.asarray, tree.get_arrays())
    for k, node in enumerate(nodes):
        inside = points[order[node["idx_start"] : node["idx_end"]]]
        if not len(inside):
            continue
        if len(bounds) == 2:  # a k-d tree: the ends of a box
            if (inside < bounds[0, k]).any() or (inside > bounds[1, k]).any():
                return True
            continue
        apart = inside - bounds[0, k]  # a ball tree: centers
        if root is not None:
            apart = apart @ root.T
        radius = node["radius"] + 1e-6 * np.linalg.norm(apart, axis=1)
        slack = 1e-9 * np.abs(bounds[0, k]).max() * (1 if root is None else np.linalg.norm(root))
        if (np.linalg.norm(apart, axis=1) > radius + slack).any():
            return True
    return False


def _metric_root(estimator: KNeighborsClassifier) -> np.ndarray | None:
    """Return L with ``LᵀL`` = the classifier's Mahalanobis matrix; None if it is Euclidean."""
    metric, params = estimator.effective_metric_, estimator.effective_metric_params_
    if metric in _EUCLIDEAN and not (params or {}).get("w") is not None:
        return None
    if metric == "mahalanobis" and "VI" in params:
        inverse = np.asarray(params["VI"], dtype=np.float64)
    elif metric == "mahalanobis" and "V" in params:
        inverse = np.linalg.inv(np.asarray(params["V"], dtype=np.float64))
    else:
        raise ValueError(
            f"KNeighborsClassifier(metric={estimator.metric!r}, p={estimator.p!r}, metric_params="
            f"{estimator.metric_params!r}) is not supported; use the Euclidean metric, or "
            "metric='mahalanobis' with metric_params={'VI': M}."
        )
    asymmetry = float(np.abs(inverse - inverse.T).max())
    if asymmetry > 1e-10 * np.abs(inverse).max():
        raise ValueError(
            "metric_params={'VI': M} must be symmetric; got entries that differ from their mirror "
            f"images by up to {asymmetry:.3g}. Use (M + M.T) / 2, which gives the same distances."
        )
    values, vectors = np.linalg.eigh((inverse + inverse.T) / 2)
    if not values.min() > 64 * _matrix_rounding(len(values)) * max(values.sum(), 0):
        raise ValueError(
            "metric_params={'VI': M} must be positive definite, well beyond rounding: its "
            f"eigenvalues go from {values.min():.3g} to {values.max():.3g}. scikit-learn computes "
            "distances as (x − z)ᵀ M (x − z), which rounding can make negative, and then loses the "
            "nearest point. Put the metric into a Pipeline as a step instead: RobustMahalanobis "
            "or another linear transformer before a Euclidean KNeighborsClassifier."
        )
    return np.sqrt(values)[:, None] * vectors.T


def _matrix_rounding(n_features: int) -> float:
    """Bound the rounding of ``δᵀ M δ``, as a share of ``tr(M) ‖δ‖²``."""
    return (2 * n_features + 16) * DOUBLE


def _pruning(search: str, n_features: int, root: np.ndarray | None) -> float:
    """Return the relative rounding of the distances by which a ball tree skips balls."""
    if search != "ball_tree":
        return 0.0
    if root is None:
        return (n_features + 16) * DOUBLE
    squares = (root**2).sum(axis=1)  # the eigenvalues
    return 2 * _matrix_rounding(n_features) * float(squares.sum() / squares.min())


def _still_fitted(estimator: KNeighborsClassifier) -> bool:
    """Return whether the metric that is set now is the Euclidean or Mahalanobis one of `fit`."""
    metric: Any = estimator.metric
    params: dict[str, Any] = estimator.metric_params or {}
    if metric == "minkowski":
        plain = estimator.p == 2 and params.get("p", 2) == 2 and params.get("w") is None
        return plain and estimator.effective_metric_ in _EUCLIDEAN
    fitted: dict[str, Any] = estimator.effective_metric_params_ or {}
    return metric == estimator.effective_metric_ and all(
        name in params and name in fitted and np.array_equal(params[name], fitted[name])
        for name in {*params, *fitted}
    )
