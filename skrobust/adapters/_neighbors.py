"""From a fitted k-NN classifier of scikit-learn to its rule: metric, search tree, what changed."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.validation import check_is_fitted

from skrobust.adapters._rule import NearestNeighborRule
from skrobust.utils._floating_point import DOUBLE, check_size, largest_value
from skrobust.utils._sklearn import knn_training_data

__all__ = ["EUCLIDEAN", "neighbors_rule"]

EUCLIDEAN = ("euclidean", "l2", "sqeuclidean")
_TRIED = 8  # training points at which the distances of a search tree are compared


def neighbors_rule(estimator: KNeighborsClassifier) -> NearestNeighborRule:
    """Return the rule of a fitted k-NN classifier.

    Parameters
    ----------
    estimator : fitted KNeighborsClassifier

    Raises
    ------
    ValueError
        If its metric, weights or data are not supported, or were changed after fit.
    """
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
    skips_balls = estimator._fit_method == "ball_tree"
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
        pruning=_ball_tree_rounding(points.shape[1], root) if skips_balls else 0.0,
    )


def _check_tree(estimator: KNeighborsClassifier, points: np.ndarray, root: Any) -> None:
    """Raise where a search tree is of other points than those there are, or measures otherwise.

    A tree may hold a copy of the points, or the points themselves, which were moved out of its
    nodes; one that was given to `fit` has its own metric.
    """
    tree = getattr(estimator, "_tree", None)
    if tree is None:
        return
    # its distances between a few points, beside those of the metric
    few = points[:: max(1, len(points) // _TRIED)][:_TRIED]
    distances, rows = tree.query(few, k=min(len(points), _TRIED**2))
    expected = _lengths(few[:, None] - points[rows], root)
    same = np.array_equal(np.asarray(tree.data), points)
    close = np.allclose(distances, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))
    if same and not close:
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
    size = 1 if root is None else np.linalg.norm(root)
    for k, node in enumerate(nodes):
        inside = points[order[node["idx_start"] : node["idx_end"]]]
        if not len(inside):
            continue
        if len(bounds) == 2:  # a k-d tree: the ends of a box
            if (inside < bounds[0, k]).any() or (inside > bounds[1, k]).any():
                return True
            continue
        # a ball tree: a center and a radius, both rounded
        distances = _lengths(inside - bounds[0, k], root)
        slack = 1e-6 * distances + 1e-9 * np.abs(bounds[0, k]).max() * size
        if (distances > node["radius"] + slack).any():
            return True
    return False


def _lengths(offsets: np.ndarray, root: np.ndarray | None) -> np.ndarray:
    """Return the norms of vectors, of shape (..., n_features), in the metric ``rootᵀ root``."""
    return np.linalg.norm(offsets if root is None else offsets @ root.T, axis=-1)


def _metric_root(estimator: KNeighborsClassifier) -> np.ndarray | None:
    """Return L with ``LᵀL`` = the classifier's Mahalanobis matrix; None if it is Euclidean."""
    metric, params = estimator.effective_metric_, estimator.effective_metric_params_
    if metric in EUCLIDEAN and not (params or {}).get("w") is not None:
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


def _ball_tree_rounding(n_features: int, root: np.ndarray | None) -> float:
    """Return the relative rounding of the distances by which a ball tree skips balls."""
    if root is None:
        return (n_features + 16) * DOUBLE
    # ‖δ‖_M² ≥ λ_min ‖δ‖²: a share of tr(M) ‖δ‖² is at most so much of it
    eigenvalues = (root**2).sum(axis=1)
    return 2 * _matrix_rounding(n_features) * float(eigenvalues.sum() / eigenvalues.min())


def _still_fitted(estimator: KNeighborsClassifier) -> bool:
    """Return whether the metric that is set now is the Euclidean or Mahalanobis one of `fit`."""
    metric: Any = estimator.metric
    params: dict[str, Any] = estimator.metric_params or {}
    if metric == "minkowski":
        plain = estimator.p == 2 and params.get("p", 2) == 2 and params.get("w") is None
        return plain and estimator.effective_metric_ in EUCLIDEAN
    fitted: dict[str, Any] = estimator.effective_metric_params_ or {}
    return metric == estimator.effective_metric_ and all(
        name in params and name in fitted and np.array_equal(params[name], fitted[name])
        for name in {*params, *fitted}
    )
