"""What every estimator with a linear metric ``components_`` offers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skrobust.utils._pairs import check_paired, split_pairs
from skrobust.utils._sklearn import array_namespace

__all__ = ["MahalanobisMetric", "MahalanobisMixin"]


@dataclass(frozen=True, eq=False)
class MahalanobisMetric:
    """The distance ``‖G (u − v)‖₂`` between two vectors, as a picklable callable.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_features)
        G.
    """

    components: np.ndarray

    def __call__(self, u: Any, v: Any, squared: bool = False) -> float:
        """Return the distance, or its square, between `u` and `v` of shape (n_features,).

        Raises
        ------
        ValueError
            If a vector does not have shape (n_features,).
        """
        difference = self._vector(u, "u") - self._vector(v, "v")
        embedded = self.components @ difference
        distance = float(embedded @ embedded)
        return distance if squared else float(np.sqrt(distance))

    def _vector(self, value: Any, name: str) -> np.ndarray:
        vector = np.asarray(value, dtype=np.float64)
        if vector.shape != (self.components.shape[1],):
            raise ValueError(
                f"{name} must have shape ({self.components.shape[1]},); got {vector.shape}."
            )
        return vector


class MahalanobisMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Methods of an estimator whose ``components_`` is G, with M = GᵀG."""

    components_: np.ndarray

    def transform(self, X: Any) -> np.ndarray:
        """Map points to the space where the learned metric is Euclidean.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            ``X @ components_.T``; float32 for float32 input, else float64. With
            scikit-learn's ``array_api_dispatch`` an array of another library (a tensor on a GPU)
            stays one, where it is.
        """
        check_is_fitted(self)
        xp, device = array_namespace(X)
        X = validate_data(self, X, dtype=[xp.float64, xp.float32], reset=False)
        if device is None:
            return X @ self.components_.T.astype(X.dtype, copy=False)
        return X @ xp.asarray(self.components_.T.copy(), dtype=X.dtype, device=device)

    def get_mahalanobis_matrix(self) -> np.ndarray:
        """Return M = GᵀG of shape (n_features, n_features), symmetric and positive semidefinite."""
        check_is_fitted(self)
        return self.components_.T @ self.components_

    def get_metric(self) -> MahalanobisMetric:
        """Return the learned distance as a callable ``metric(u, v)``.

        It is picklable and may be given to scikit-learn as ``metric=``; transforming the
        data and using the Euclidean metric does the same much faster.
        """
        check_is_fitted(self)
        return MahalanobisMetric(self.components_.astype(np.float64))

    def pair_distance(self, X: Any, Y: Any = None) -> np.ndarray:
        """Return the learned distance of each pair.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_features), or (n_pairs, 2, n_features)
            The first points; or, where `Y` is not given, both points of every pair, as in
            metric-learn.
        Y : array-like of shape (n_pairs, n_features), default=None
            The second points.

        Returns
        -------
        ndarray of shape (n_pairs,)
            ``‖G (x − y)‖₂``, smaller is more alike.

        Raises
        ------
        ValueError
            If the shapes do not match.
        """
        check_is_fitted(self)
        X, Y = split_pairs(X, Y)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        Y = validate_data(self, Y, dtype=[np.float64, np.float32], reset=False)
        check_paired(X, Y)
        difference = X - Y
        embedded = difference @ self.components_.T.astype(difference.dtype, copy=False)
        return np.sqrt(np.einsum("ij,ij->i", embedded, embedded))

    def pair_score(self, X: Any, Y: Any = None) -> np.ndarray:
        """Return minus :meth:`pair_distance`: larger is more alike."""
        return -self.pair_distance(X, Y)

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def _affine_map(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the matrix and the offset of `transform`, for the adapters."""
        return self.components_.astype(np.float64), np.zeros(self.components_.shape[0])
