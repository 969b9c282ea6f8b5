"""k-NN with a certified radius for each prediction."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.validation import check_is_fitted

from skrobust.certificates import (
    Certificate,
    certify,
)
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import Packaged
from skrobust.utils._sklearn import StrOptions
from skrobust.utils._torch import resolve_device
from skrobust.utils._validation import check_abstain_label, check_one_eps

__all__ = ["RobustKNeighborsClassifier"]


class RobustKNeighborsClassifier(Packaged, KNeighborsClassifier):
    """k-NN that says how far each of its predictions can be trusted.

    It predicts what :class:`~sklearn.neighbors.KNeighborsClassifier` with uniform weights does.

    Parameters
    ----------
    n_neighbors : int, default=5
        Neighbours that vote; ties go to the smallest label.
    algorithm : {"auto", "ball_tree", "kd_tree", "brute"}, default="auto"
        How neighbours are searched for predictions.
    leaf_size : int, default=30
        Leaf size of the trees.
    metric : str, default="euclidean"
        "euclidean", or "mahalanobis" with `metric_params`.
    metric_params : dict, default=None
        ``{"VI": M}`` for the Mahalanobis metric.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    method : {"auto", "fast", "exact", "bound"}, default="auto"
        The proof, as in :func:`skrobust.certify`: "auto" is the exact radius for one neighbour
        and a lower bound for more, "fast" and "bound" are the lower bound; "exact" searches the
        radius itself, which takes longer for more than one neighbour.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:N" or "auto", for certificates.
    n_jobs : int, default=None
        Jobs for joblib, for predictions and certificates.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Where X had string names in `fit`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skrobust.neighbors import RobustKNeighborsClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = RobustKNeighborsClassifier(3).fit(X[::2], y[::2])
    >>> labels, radius = knn.predict_with_radius(X[1:4:2])
    >>> labels, radius.round(2)
    (array([0, 0]), array([1.25, 1.25]))
    >>> knn.predict_or_abstain(X[[1, 101]], 0.5, abstain_label=-1)
    array([ 0, -1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: constraint
            for name, constraint in KNeighborsClassifier._parameter_constraints.items()
            if name not in ("weights", "p")
        },
        "metric": [StrOptions({"euclidean", "mahalanobis"})],
        "threat_model": [ThreatModel, None],
        "method": [StrOptions({"auto", "fast", "exact", "bound"})],
        "device": [str],
    }

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "euclidean",
        metric_params: dict[str, Any] | None = None,
        threat_model: ThreatModel | None = None,
        method: str = "auto",
        device: str = "cpu",
        n_jobs: int | None = None,
    ):
        super().__init__(
            n_neighbors=n_neighbors,
            algorithm=algorithm,
            leaf_size=leaf_size,
            metric=metric,
            metric_params=metric_params,
            n_jobs=n_jobs,
        )
        self.threat_model = threat_model
        self.method = method
        self.device = device

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        RobustKNeighborsClassifier
            Itself.

        Raises
        ------
        ValueError
            If a parameter, X or y is not supported; the message names it.
        """
        self._check_metric()
        resolve_device(self.device)
        super().fit(X, y)
        inverse, shape = (self.metric_params or {}).get("VI"), (self.n_features_in_,) * 2
        if inverse is not None and getattr(inverse, "shape", None) != shape:
            raise ValueError(
                f"metric_params['VI'] must be an array of shape {shape}; got {inverse!r}."
            )
        if self.outputs_2d_:
            raise ValueError(f"y must have shape (n_samples,); got {np.shape(y)}.")
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = False
        tags.target_tags.multi_output = False
        return tags

    def _check_metric(self) -> None:
        given = set(self.metric_params or {})
        if self.metric == "euclidean" and given:
            raise ValueError(
                f"metric_params must be None for metric='euclidean'; got {self.metric_params!r}."
            )
        if self.metric == "mahalanobis" and given != {"VI"}:
            raise ValueError(
                "metric='mahalanobis' needs metric_params={'VI': M}; got "
                f"metric_params={self.metric_params!r}."
            )

    def certify(
        self, X: Any, y: Any = None, *, target: Any = None, verbose: int = 0
    ) -> Certificate:
        """Certify predictions, as :func:`skrobust.certify` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            True labels; points that are predicted wrong have radius 0. None certifies the
            predictions themselves.
        target : label, default=None
            Only changes into this class count; no label in `y` may be it. None is any change.
        verbose : int, default=0
            1 prints progress.

        Returns
        -------
        Certificate
        """
        check_is_fitted(self)
        return certify(
            self,
            X,
            y,
            threat_model=self.threat_model,
            method=self.method,
            target=target,
            device=self.device,
            n_jobs=self.n_jobs,
            verbose=verbose,
        )

    def predict_with_radius(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predict labels, and radii within which no perturbation changes them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        radius : ndarray of shape (n_samples,)
            Proved, in the units of X over the threat model's scales; inf where nothing can
            change the prediction.
        """
        check_is_fitted(self)
        labels = self.predict(X)
        return labels, self.certify(X, labels).radius

    def predict_or_abstain(self, X: Any, radius: float, *, abstain_label: Any) -> np.ndarray:
        """Predict where the prediction is proved within `radius`, abstain elsewhere.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        radius : float
            Finite, ≥ 0.
        abstain_label : label
            Returned for the points below the radius; no class of the training data, and of
            their kind (a number, or text).

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        threshold = check_one_eps(radius, name="radius")
        check_abstain_label(abstain_label, self.classes_)
        label = np.asarray(abstain_label)
        labels, radii = self.predict_with_radius(X)
        kind = np.result_type(labels.dtype, label.dtype) if labels.dtype != object else object
        return np.where(radii >= threshold, labels.astype(kind), label.astype(kind))
