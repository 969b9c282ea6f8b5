"""What the classifiers that fit another one on a part of the training points have in common."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import get_config
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from skrobust.adapters import NearestNeighborRule, as_nearest_neighbor_rule
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._floating_point import check_size
from skrobust.utils._sklearn import HasMethods, fit_context, safe_indexing
from skrobust.utils._weights import check_weight

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
        return self._fit(X, y, None)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        points, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        check_size(points)
        weight = check_weight(sample_weight, len(points))
        counted = np.arange(len(points)) if weight is None else np.flatnonzero(weight)
        classes, encoded = np.unique(labels[counted], return_inverse=True)
        some = points[counted].astype(np.float64, copy=False)
        given = None if weight is None else weight[counted]
        self.sample_indices_ = counted[self._keep(some, encoded, classes, given)]
        base = KNeighborsClassifier(1) if self.estimator is None else clone(self.estimator)
        kept = _rows(X, points, self.sample_indices_)
        passed = {} if weight is None else self._passed_on(base, weight[self.sample_indices_])
        self.estimator_ = base.fit(kept, labels[self.sample_indices_], **passed)
        self.classes_ = self.estimator_.classes_
        return self

    def _passed_on(self, base: Any, weight: np.ndarray) -> dict[str, Any]:
        """Return the weights as an argument of the estimator's fit, where it takes some."""
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", sample_weight=weight).estimator.fit
        return {"sample_weight": weight} if has_fit_parameter(base, "sample_weight") else {}

    @abstractmethod
    def _keep(
        self, X: np.ndarray, y: np.ndarray, classes: np.ndarray, weight: np.ndarray | None
    ) -> np.ndarray:
        """Return the mask of the points to keep, at least one.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), float64
        y : ndarray of shape (n_samples,), int
            Indices into `classes`.
        classes : ndarray of shape (n_classes,)
        weight : ndarray of shape (n_samples,) or None
            Positive.
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

    def _as_nearest_neighbor_rule(self) -> NearestNeighborRule:
        check_is_fitted(self)
        return as_nearest_neighbor_rule(self.estimator_)


def _rows(given: Any, converted: Any, rows: np.ndarray) -> Any:
    """Return rows of a frame or series as one, of anything else as an array."""
    if hasattr(given, "columns") or hasattr(given, "to_frame"):
        return safe_indexing(given, rows)
    return np.asarray(converted)[rows]
