"""What the classifiers that fit another one on a part of the training points have in common."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import HasMethods, fit_context, safe_indexing
from skrobust.victims import NearestNeighborRule, as_nearest_neighbor_rule
from skrobust.victims._rule import check_size

__all__ = ["SampleSelectingClassifier"]


def _inner_has(method: str) -> Callable[[Any], bool]:
    def check(selecting: Any) -> bool:
        base = KNeighborsClassifier() if selecting.estimator is None else selecting.estimator
        return hasattr(getattr(selecting, "estimator_", base), method)

    return check


class SampleSelectingClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A classifier that is fitted on the training points that `_keep` selects.

    Predictions are those of the fitted classifier. Certificates see it alone, because a
    selection leaves nothing else behind than other training points.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
    }

    estimator: Any

    # a nested estimator validates its own parameters, in its own fit
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Select training points, and fit a clone of `estimator` on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training points.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        SampleSelectingClassifier
            Itself, fitted.

        Raises
        ------
        ValueError
            If a parameter or the data are not supported; the message names it.

        Warns
        -----
        UserWarning
            If no point of a class passes the selection.
        """
        points, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        check_size(points)
        classes, encoded = np.unique(labels, return_inverse=True)
        keep = self._keep(points.astype(np.float64, copy=False), encoded, classes)
        self.sample_indices_ = np.flatnonzero(keep)
        base = KNeighborsClassifier(1) if self.estimator is None else clone(self.estimator)
        kept = _rows(X, points, self.sample_indices_)
        self.estimator_ = base.fit(kept, labels[self.sample_indices_])
        self.classes_ = self.estimator_.classes_
        return self

    @abstractmethod
    def _keep(self, X: np.ndarray, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the mask of the points to keep, at least one.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), float64
        y : ndarray of shape (n_samples,), int
            Indices into `classes`.
        classes : ndarray of shape (n_classes,)
        """

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Fit, and return the points that were kept, as samplers of imbalanced-learn do.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        X : ndarray or frame of shape (n_kept, n_features)
            In the order of `X`; a frame where `X` is one.
        y : ndarray or series of shape (n_kept,)
        """
        self.fit(X, y)
        return _rows(X, X, self.sample_indices_), _rows(y, y, self.sample_indices_)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels with `estimator_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_inner_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities with `estimator_`, where it can.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(_inner_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores of `estimator_`, where it has some.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    def _as_victim(self) -> NearestNeighborRule:
        check_is_fitted(self)
        return as_nearest_neighbor_rule(self.estimator_)


def _rows(given: Any, converted: Any, rows: np.ndarray) -> Any:
    """Return rows of a frame or series as one, of anything else as an array."""
    if hasattr(given, "columns") or hasattr(given, "to_frame"):
        return safe_indexing(given, rows)
    return np.asarray(converted)[rows]
