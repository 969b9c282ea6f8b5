"""Points and labels as a training needs them."""

import warnings
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, validate_data

from skrobust.datasets import LazyImages
from skrobust.deep._layout import InputLayout
from skrobust.deep._statistics import check_float32
from skrobust.deep._validation import check_is_array, check_labels

__all__ = ["read_training_data"]


def read_training_data(
    estimator: Any, X: Any, y: Any, reset: bool = True, classes: Any = None
) -> tuple[Any, np.ndarray]:
    """Check the data; return points and labels 0, 1, ….

    Parameters
    ----------
    estimator : AdversarialDeepMetric
        It gets `classes_`, `layout_`, `n_features_in_` and names of features.
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
    reset : bool, default=True
        Whether the shape of the points is new.
    classes : array-like of shape (n_classes,), default=None
        All labels; None takes those of y.

    Raises
    ------
    ValueError, TypeError
        If they are not as described.
    """
    check_is_array(X)
    if isinstance(X, LazyImages):
        check_consistent_length(X, y)
        estimator.n_features_in_ = X.shape[1]
        estimator.__dict__.pop("feature_names_in_", None)
    else:
        X = validate_data(
            estimator, X, reset=reset, allow_nd=True, dtype="numeric", ensure_min_samples=2
        )
        check_float32(X)
    if y is None:
        raise ValueError(
            f"requires y to be passed, but the target y is None: {type(estimator).__name__} "
            "learns from labels."
        )
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    check_classification_targets(y)
    found = np.unique(y if classes is None else classes)
    encoded = np.searchsorted(found, y).clip(max=len(found) - 1)
    if (found[encoded] != y).any():
        new = np.unique(y[found[encoded] != y])
        raise ValueError(
            f"y must hold labels of classes, in the first call of partial_fit, or of that "
            f"call; got {new}, and the classes are {found}."
        )
    counts = np.bincount(encoded, minlength=len(found))
    present = counts > 0
    check_labels(found[present], counts[present])
    given = estimator.image_shape, estimator.channels_last
    layout = InputLayout.of(tuple(X.shape[1:]), *given)
    if reset and layout.guessed:
        warnings.warn(
            f"{layout}; channels_last={layout.channels_last} says so, "
            f"{not layout.channels_last} that they are not.",
            UserWarning,
            stacklevel=2,
        )
    if not reset and layout.shape != estimator.layout_.shape:
        raise ValueError(
            f"X has rows of shape {layout.shape}; the first call had {estimator.layout_.shape}."
        )
    if reset:
        estimator.layout_ = layout
    estimator.classes_ = found
    return X, encoded.astype(np.int64)
