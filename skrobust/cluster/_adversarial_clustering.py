r"""Clustering on a learned metric, with centers that withstand outliers, and what is proved of it.

A metric embeds points, z = f(x), and a clustering algorithm groups the embeddings. With k-means a
new point belongs to the nearest center μ_c, which is a 1-NN rule with the centers as training
points: for a linear metric the certificates of the package say how far a point has to move before
it changes its cluster.
"""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    clone,
)
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skrobust.adapters import (
    NearestNeighborRule,
    as_nearest_neighbor_rule,
)
from skrobust.certificates import certify
from skrobust.cluster._engines import (
    inertia,
    kmeans,
    nearest_center,
    refine,
    trimmed_kmeans,
)
from skrobust.metrics import clustering_scores
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator, fit_unless_frozen
from skrobust.utils._sklearn import HasMethods, Interval, StrOptions, fit_context
from skrobust.utils._torch import resolve_device
from skrobust.utils._warnings import warn

__all__ = ["AdversarialClustering"]

_WITH_CENTERS = ("kmeans", "spherical_kmeans")
_WITH_NUMBER = (*_WITH_CENTERS, "agglomerative")
_COUNTED = 10_000  # points among which different ones are counted


def _has_rule(estimator: Any) -> bool:
    if estimator.algorithm not in _WITH_CENTERS:
        raise AttributeError(
            f"algorithm={estimator.algorithm!r} has no rule for new points; use one of "
            f"{', '.join(_WITH_CENTERS)}."
        )
    return True


class AdversarialClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Cluster points by a learned metric.

    Parameters
    ----------
    metric : transformer, default=None
        Embeds the points: :class:`~skrobust.RobustMahalanobis`,
        :class:`~skrobust.AdversarialDeepMetric`, PCA, a Pipeline. It is fitted as a clone, unless
        in a ``FrozenEstimator``. None takes the points as they are.
    n_clusters : int, default=8
        Not used by "hdbscan" and by a clusterer of one's own.
    algorithm : {"kmeans", "spherical_kmeans", "agglomerative", "hdbscan"} or clusterer, \
            default="kmeans"
        "spherical_kmeans" divides embeddings and centers by their norms; "agglomerative" (Ward)
        and "hdbscan" are scikit-learn's, with their defaults, and have no rule for new points. A
        clusterer with parameters, as ``HDBSCAN(min_cluster_size=20)``, is fitted as a clone on the
        embeddings; a search reaches them as ``algorithm__min_cluster_size``.
    center : {"mean", "median", "trimmed"}, default="mean"
        The center of a cluster, for "kmeans": "median" takes that of each coordinate, "trimmed"
        leaves the farthest points out, from five times as many starts.
    trim : float, default=0.1
        Share of all points, in [0, 1), that ``center="trimmed"`` leaves out.
    backend : {"auto", "faiss", "sklearn"}, default="auto"
        What computes k-means: "auto" is faiss for large problems.
    batch_size : int, default=None
        Points of a step of scikit-learn's mini-batch k-means, for data that do not fit into
        memory (a ``numpy.memmap`` is read some rows at a time where there is no `metric`) or
        where passes over all points take too long; None is k-means.
    n_init : int, default=4
        Starts of k-means; the best is kept.
    max_iter : int, default=300
        Iterations of k-means.
    tol : float, default=1e-4
        That of scikit-learn's k-means; with faiss, what an iteration has to gain, a share of the
        inertia.
    device : str, default="auto"
        Where faiss computes: "auto" (CUDA where present and known to faiss), "cpu" or "cuda".
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    metric_ : transformer or None
        The fitted metric.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each point; -1 for points that the algorithm takes for noise.
    cluster_centers_ : ndarray of shape (n_clusters, n_components)
        In the space of the metric. Where the algorithm has none: the means of the clusters, or
        of all points where all are noise.
    inertia_ : float
        Sum of squared distances to the nearest centers.
    n_iter_ : int
        Iterations of k-means, else 1.
    scores_ : dict of str to float
        ``"nmi"``, ``"ami"`` and ``"f1"`` against the labels that `fit` was given; noise is no
        cluster there.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where the columns of X had names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import AdversarialClustering, RobustMahalanobis
    >>> X, y = load_iris(return_X_y=True)
    >>> metric = RobustMahalanobis(random_state=0)
    >>> clusters = AdversarialClustering(metric, n_clusters=3, random_state=0).fit(X, y)
    >>> bool(clusters.scores_["nmi"] > 0.6)
    True
    >>> clusters.assignment_radius(X[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "metric": [HasMethods(["fit", "transform"]), None],
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [
            StrOptions({*_WITH_CENTERS, "agglomerative", "hdbscan"}),
            HasMethods(["fit_predict"]),
        ],
        "center": [StrOptions({"mean", "median", "trimmed"})],
        "trim": [Interval(Real, 0, 1, closed="left")],
        "backend": [StrOptions({"auto", "faiss", "sklearn"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
    }

    labels_: np.ndarray
    cluster_centers_: np.ndarray

    def __init__(
        self,
        metric: Any = None,
        n_clusters: int = 8,
        *,
        algorithm: Any = "kmeans",
        center: str = "mean",
        trim: float = 0.1,
        backend: str = "auto",
        batch_size: int | None = None,
        n_init: int = 4,
        max_iter: int = 300,
        tol: float = 1e-4,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.metric = metric
        self.n_clusters = n_clusters
        self.algorithm = algorithm
        self.center = center
        self.trim = trim
        self.backend = backend
        self.batch_size = batch_size
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.device = device
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the metric, and cluster the embeddings.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            Labels, for the metric; `scores_` compares the clusters with them.

        Returns
        -------
        AdversarialClustering
            Itself, fitted.

        Raises
        ------
        ValueError
            If there are fewer points, or fewer different embeddings, than clusters, or a
            parameter is not as described.
        """
        if self.algorithm != "kmeans" and self.center != "mean":
            raise ValueError(
                f"center={self.center!r} is for algorithm='kmeans'; got {self.algorithm!r}."
            )
        gpu = resolve_device(self.device).type == "cuda"
        checked = self._check(X, reset=True)
        if self.algorithm in _WITH_NUMBER and len(checked) < self.n_clusters:
            raise ValueError(
                f"n_clusters={self.n_clusters} must be at most the number of points; got "
                f"n_samples={len(checked)}."
            )
        labels = None if y is None else column_or_1d(y)
        if self.metric is None:
            self.metric_ = None
        else:
            self.metric_ = fit_unless_frozen(self.metric, X, y)
        Z = self._embed(X, checked)
        if self.algorithm in _WITH_CENTERS:
            self._fit_centers(Z, gpu)
            nearest = self.labels_
        else:
            clusters = np.asarray(self._clusterer().fit_predict(Z))
            # numbered from 0 without gaps, whatever the clusterer's own numbers are
            numbers = np.unique(clusters[clusters >= 0])
            self.labels_ = np.searchsorted(numbers, clusters).astype(np.int32)
            self.labels_[clusters < 0] = -1
            groups = [Z[self.labels_ == c] for c in range(self.labels_.max() + 1)] or [Z]
            self.cluster_centers_ = np.stack([group.mean(axis=0) for group in groups])
            self.n_iter_ = 1
            nearest = nearest_center(Z, self.cluster_centers_)
        self.inertia_ = inertia(Z, self.cluster_centers_, nearest)
        if labels is not None:
            self.scores_ = clustering_scores(labels, self.labels_)
        return self

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> np.ndarray:
        """Fit, and return the cluster of each point.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
        **kwargs : dict
            Not used.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.fit(X, y).labels_

    @available_if(_has_rule)
    def predict(self, X: Any) -> np.ndarray:
        """Return the cluster whose center is nearest, for new points.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return nearest_center(self._embed(X, self._check(X)), self.cluster_centers_)

    def transform(self, X: Any) -> np.ndarray:
        """Return the distances to the centers, in the space of the metric.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_clusters)
        """
        check_is_fitted(self)
        return euclidean_distances(self._embed(X, self._check(X)), self.cluster_centers_)

    @available_if(_has_rule)
    def assignment_radius(
        self, X: Any, threat_model: ThreatModel | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Return how far each point has to move before it changes its cluster: a proof.

        The centers stay where they are (the inductive setting); if all points were
        clustered anew, others could move them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        threat_model : ThreatModel, default=None
            Norm, scales and mutable features; None is ℓ₂ on all features.
        **kwargs : dict
            Passed to :func:`skrobust.certify`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Lower bounds, in the units of X; inf where no point leaves its cluster.

        Raises
        ------
        ValueError
            If the metric is neither an affine map of X nor a network with a Lipschitz bound
            (``AdversarialDeepMetric(lipschitz="orthogonal")``), or the algorithm is not "kmeans".
        """
        return certify(self, X, threat_model=threat_model, **kwargs).radius

    def _as_nearest_neighbor_rule(self) -> NearestNeighborRule:
        return as_nearest_neighbor_rule(self._as_pipeline())

    def _as_pipeline(self) -> Any:
        """Return the rule of the nearest center, whose classes are the clusters."""
        check_is_fitted(self)
        if self.algorithm != "kmeans":
            raise ValueError(
                "certificates need clusters of the nearest center, "
                f"algorithm='kmeans'; got {self.algorithm!r}."
            )
        nearest = KNeighborsClassifier(1, algorithm="brute")
        nearest.fit(self.cluster_centers_, np.arange(len(self.cluster_centers_)))
        return nearest if self.metric_ is None else make_pipeline(self.metric_, nearest)

    def _fit_centers(self, Z: np.ndarray, gpu: bool) -> None:
        random_state = check_random_state(self.random_state)
        distinct = len(np.unique(Z, axis=0)) if len(Z) < _COUNTED else self.n_clusters
        if distinct < self.n_clusters:
            raise ValueError(
                f"n_clusters={self.n_clusters} must be at most the number of different "
                f"embeddings; got {distinct}."
            )
        if self.center == "trimmed":
            fitted = trimmed_kmeans(
                Z,
                self.n_clusters,
                self.trim,
                n_init=5 * self.n_init,
                max_iter=self.max_iter,
                random_state=random_state,
            )
        else:
            fitted = kmeans(
                Z,
                self.n_clusters,
                backend=self.backend,
                n_init=self.n_init,
                max_iter=self.max_iter,
                tol=self.tol,
                batch_size=self.batch_size,
                gpu=gpu,
                random_state=random_state,
            )
        if self.algorithm == "spherical_kmeans":
            fitted = refine(Z, fitted, "direction", self.max_iter)
        elif self.center == "median":
            fitted = refine(Z, fitted, "median", self.max_iter)
        self.cluster_centers_ = fitted.centers
        self.labels_ = nearest_center(Z, fitted.centers)
        self.n_iter_ = fitted.n_iter
        n_empty = self.n_clusters - len(np.unique(self.labels_))
        if n_empty:
            warn(
                f"{n_empty} of n_clusters={self.n_clusters} clusters have no points; use fewer "
                "clusters, or more starts (n_init).",
                ConvergenceWarning,
            )

    def _clusterer(self) -> Any:
        """Return what clusters embeddings where the package does not do it itself."""
        if self.algorithm == "agglomerative":
            return AgglomerativeClustering(self.n_clusters)
        if self.algorithm == "hdbscan":
            return HDBSCAN(copy=True)
        return clone(self.algorithm)

    def _check(self, X: Any, reset: bool = False) -> Any:
        kept = [np.float64, np.float32]
        in_batches = self.batch_size is not None and self.metric is None
        plain = self.algorithm == "kmeans" and self.center == "mean"
        if in_batches and plain and isinstance(X, np.ndarray) and X.dtype.kind in "iu":
            kept = [X.dtype]  # integers become floats a batch at a time
        return validate_data(self, X, reset=reset, allow_nd=True, dtype=kept)

    def _embed(self, X: Any, checked: np.ndarray) -> np.ndarray:
        """Return embeddings; those of the metric are checked, since it may be anything."""
        if self.metric_ is None:
            Z = checked.reshape(len(checked), -1)
        else:
            Z = check_array(
                self.metric_.transform(X), dtype=[np.float64, np.float32], input_name="embedding"
            )
        if self.algorithm == "spherical_kmeans":
            size = np.linalg.norm(Z, axis=1, keepdims=True)
            Z = np.divide(Z, size, out=np.zeros_like(Z), where=size > 0)
        return Z

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)
