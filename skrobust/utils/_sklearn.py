"""The one place that touches scikit-learn's private or version-dependent names."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import device, get_namespace
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
)
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this release of scikit-learn has no callbacks."""


__all__ = [
    "BaseComposition",
    "BaseSearchCV",
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "array_namespace",
    "column_transformer_blocks",
    "dropped_features",
    "fit_context",
    "knn_training_data",
    "safe_indexing",
]


def array_namespace(X: Any) -> tuple[Any, Any]:
    """Return the array library of X, and the device that X is on.

    NumPy and None, unless ``array_api_dispatch`` is on and X is an array of another library.
    """
    xp, dispatched = get_namespace(X)
    if not dispatched or isinstance(X, np.ndarray):
        return np, None
    return xp, device(X)


def knn_training_data(estimator: Any) -> tuple[Any, np.ndarray]:
    """Return the points and the encoded labels that a fitted k-NN classifier keeps.

    Returns
    -------
    X : array or sparse matrix of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Indices into ``estimator.classes_``.
    """
    return estimator._fit_X, estimator._y


def column_transformer_blocks(estimator: Any) -> Iterator[tuple[str, Any, np.ndarray, slice]]:
    """Yield ``(name, fitted step, input columns, output slice)`` of a fitted ColumnTransformer.

    Columns are integer positions in the frame that `fit` saw, also where they were
    given as names, masks, slices or a callable.
    """
    positions = np.arange(estimator.n_features_in_)
    names = getattr(estimator, "feature_names_in_", None)
    for name, step, columns in estimator.transformers_:
        if isinstance(step, str) and step == "drop":
            continue
        yield name, step, _positions(columns, positions, names), estimator.output_indices_[name]


def dropped_features(estimator: Any) -> np.ndarray | None:
    """Return the mask of the features that the first step of an estimator drops, if it is known.

    Parameters
    ----------
    estimator : fitted estimator or None

    Returns
    -------
    ndarray of shape (n_features,) of bool, or None
    """
    if isinstance(estimator, FrozenEstimator):
        return dropped_features(estimator.estimator)
    if isinstance(estimator, BaseSearchCV):
        return dropped_features(getattr(estimator, "best_estimator_", None))
    for _, step in getattr(estimator, "steps", None) or []:
        if step is not None and not isinstance(step, str):
            return dropped_features(step)
    if isinstance(estimator, SelectorMixin):
        return ~np.asarray(estimator.get_support())
    if not isinstance(estimator, ColumnTransformer):
        return None
    dropped = np.ones(estimator.n_features_in_, dtype=bool)
    for _, _, columns, _ in column_transformer_blocks(estimator):
        dropped[columns] = False
    return dropped


def _positions(columns: Any, positions: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    if isinstance(columns, slice) and (
        isinstance(columns.start, str) or isinstance(columns.stop, str)
    ):
        # a slice of names includes its end, as in pandas
        index = {name: i for i, name in enumerate(names if names is not None else [])}
        start = 0 if columns.start is None else index[columns.start]
        stop = len(positions) if columns.stop is None else index[columns.stop] + 1
        return positions[start : stop : columns.step]
    if isinstance(columns, slice):
        return positions[columns]
    columns = np.atleast_1d(np.asarray(columns))
    if columns.dtype.kind in "OUT" and names is not None:
        index = {name: i for i, name in enumerate(names)}
        return np.array([index[column] for column in columns], dtype=int)
    if columns.dtype == bool:
        return positions[columns]
    return positions[columns.astype(int)]
