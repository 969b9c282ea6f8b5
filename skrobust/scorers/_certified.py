"""Scorers of certified robustness; every number is a lower bound on the truth."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

from skrobust.certificates import METHODS, Certificate, certify, certify_retrieval
from skrobust.metrics import certified_accuracy_score, mean_certified_radius
from skrobust.scorers._base import (
    RobustnessScorer,
    by_class,
    check_budgets,
    point_weight,
    shares_by_eps,
)
from skrobust.threat_model import ThreatModel
from skrobust.utils._validation import check_choice, check_one_eps
from skrobust.utils._weights import check_weight, weight_or_ones, weighted_mean

__all__ = [
    "certified_accuracy",
    "certified_accuracy_scorer",
    "certified_assignment_scorer",
    "certified_curve_scorer",
    "certified_retrieval_scorer",
    "mean_certified_radius_scorer",
]


def certified_accuracy(
    estimator: Any,
    X: Any,
    y: Any,
    eps: float,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "fast",
    balanced: bool = False,
    sample_weight: Any = None,
) -> float:
    """Share of points that are right at every allowed perturbation of norm up to `eps`.

    Parameters
    ----------
    estimator : fitted classifier
        One that :func:`skrobust.certify` takes: k-NN behind affine steps, prototypes,
        or a smoothed classifier, whose bound is probabilistic.
    X : array-like of shape (n_samples, n_features)
        Points, in raw feature space.
    y : array-like of shape (n_samples,)
        True labels.
    eps : float
        Budget in the units of `X`, before any scaling step; finite, ≥ 0.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features. Its own `eps` is not used.
    method : {"fast", "auto", "exact", "bound", "smoothing"}, default="fast"
        The proof; see :func:`skrobust.certify`.
    balanced : bool, default=False
        Whether the score is the mean over classes of their own shares, as in scikit-learn's
        ``balanced_accuracy_score``: a rare class then counts as much as a frequent one.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each point counts, ≥ 0; within its class where `balanced`. None counts all
        alike.

    Returns
    -------
    float
        A lower bound on the robust accuracy; the clean accuracy at ``eps=0``.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.scorers import certified_accuracy
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    >>> certified_accuracy(knn, [[0.0], [0.9]], [0, 0], eps=0.5)
    0.5
    """
    options: dict[str, Any] = {"threat_model": threat_model, "method": method}
    scorer = certified_accuracy_scorer(eps, balanced=balanced, **options)
    return scorer(estimator, X, y, sample_weight)


def _check(threat_model: Any, method: str = "fast") -> None:
    """Raise before anything is fitted: inside a search, an error would be a score of NaN."""
    ThreatModel.of(threat_model)
    check_choice(method, METHODS, name="method")


def _score(certificate: Certificate, eps: Any, weight: np.ndarray | None) -> Any:
    return certified_accuracy_score(
        certificate.radius, certificate.correct, eps, sample_weight=weight
    )


@dataclass(unsafe_hash=True)
class _CertifiedScorer(RobustnessScorer):
    """Base class: a scorer that certifies the points once."""

    threat_model: ThreatModel | None
    method: str
    balanced: bool

    def _certify(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Certificate, np.ndarray | None]:
        """Return a certificate, and the weights of the points."""
        weight = point_weight(y, sample_weight, self.balanced)
        certificate = certify(estimator, X, y, threat_model=self.threat_model, method=self.method)
        return certificate, weight


@dataclass(unsafe_hash=True)
class _CertifiedAccuracy(_CertifiedScorer):
    """Scorer of the certified accuracy at one budget."""

    eps: float

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        certificate, weight = self._certify(estimator, X, y, sample_weight)
        return _score(certificate, self.eps, weight)


@dataclass(unsafe_hash=True)
class _MeanCertifiedRadius(_CertifiedScorer):
    """Scorer of the mean certified radius."""

    cap: float | None

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        certificate, weight = self._certify(estimator, X, y, sample_weight)
        return mean_certified_radius(certificate.radius, cap=self.cap, sample_weight=weight)


@dataclass(unsafe_hash=True)
class _CertifiedCurve(_CertifiedScorer):
    """Scorer of several numbers from one certification."""

    eps: tuple[float, ...]
    cap: float | None
    per_class: bool

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None
    ) -> dict[str, float]:
        certificate, weight = self._certify(estimator, X, y, sample_weight)

        def shares(weight: np.ndarray | None) -> dict[str, float]:
            return shares_by_eps(
                "certified", self.eps, lambda eps: _score(certificate, eps, weight)
            )

        scores = {"accuracy": float(weighted_mean(certificate.correct, weight))} | shares(weight)
        unreachable = np.isinf(certificate.radius)
        counted = unreachable if weight is None else unreachable & (weight > 0)
        mean = float("inf")
        if self.cap is not None or not counted.any():
            mean = mean_certified_radius(certificate.radius, cap=self.cap, sample_weight=weight)
        scores["mean_certified_radius"] = mean
        scores["share_unreachable"] = float(weighted_mean(unreachable, weight))
        if self.per_class:
            scores |= by_class(estimator, y, sample_weight, shares)
        return scores


def certified_accuracy_scorer(
    eps: float,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "fast",
    balanced: bool = False,
) -> _CertifiedAccuracy:
    """Make a scorer of the certified accuracy at one budget.

    Parameters
    ----------
    eps : float
        Budget in the units of X, finite, ≥ 0.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    method : {"fast", "auto", "exact", "bound", "smoothing"}, default="fast"
        The proof; see :func:`skrobust.certify`.
    balanced : bool, default=False
        Whether the score is the mean over classes of their own shares, as in scikit-learn's
        ``balanced_accuracy_score``: a rare class then counts as much as a frequent one.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable; for ``scoring=``. A lower bound on robust accuracy, larger is better.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.scorers import certified_accuracy_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> scorer = certified_accuracy_scorer(eps=0.3)
    >>> len(cross_val_score(KNeighborsClassifier(1), X, y, scoring=scorer))
    5
    """
    _check(threat_model, method)
    return _CertifiedAccuracy(threat_model, method, balanced, check_one_eps(eps))


@dataclass(unsafe_hash=True)
class _CertifiedAssignment(RobustnessScorer):
    """Scorer of the points whose cluster cannot change."""

    eps: float
    threat_model: ThreatModel | None
    method: str

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        weight = check_weight(sample_weight, len(X))
        certificate = certify(estimator, X, threat_model=self.threat_model, method=self.method)
        return _score(certificate, self.eps, weight)


def certified_assignment_scorer(
    eps: float, *, threat_model: ThreatModel | None = None, method: str = "fast"
) -> _CertifiedAssignment:
    """Make a scorer of the share of points whose cluster provably stays, for centers that stay.

    Parameters
    ----------
    eps : float
        Budget in the units of X, finite, ≥ 0.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    method : {"fast", "auto", "exact", "bound"}, default="fast"
        The proof; see :func:`skrobust.certify`.

    Returns
    -------
    callable ``(estimator, X, y=None, sample_weight=None) -> float``
        Picklable; for ``scoring=``. A lower bound, larger is better. Labels are not looked at.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from skrobust.scorers import certified_assignment_scorer
    >>> clusters = KMeans(2, n_init=1, random_state=0).fit([[0.0], [4.0]])
    >>> certified_assignment_scorer(eps=1.0)(clusters, [[0.5], [1.5]])
    0.5
    """
    _check(threat_model, method)
    return _CertifiedAssignment(check_one_eps(eps), threat_model, method)


@dataclass(unsafe_hash=True)
class _CertifiedRetrieval(RobustnessScorer):
    """Scorer of the queries whose item on top provably keeps its class."""

    eps: float
    gallery_eps: float
    threat_model: ThreatModel | None
    balanced: bool

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        weight = point_weight(y, sample_weight, self.balanced)
        certificate = certify_retrieval(
            estimator, X, y, threat_model=self.threat_model, gallery_eps=self.gallery_eps
        )
        certified = certificate.correct & (certificate.radius >= self.eps)
        _, inverse, counts = np.unique(column_or_1d(y), return_inverse=True, return_counts=True)
        weight = np.where(counts[inverse] == 1, 0.0, weight_or_ones(weight, len(inverse)))
        return float(weighted_mean(certified, weight))


def certified_retrieval_scorer(
    eps: float,
    *,
    gallery_eps: float = 0.0,
    threat_model: ThreatModel | None = None,
    balanced: bool = False,
) -> _CertifiedRetrieval:
    """Make a scorer of the certified Recall@1 of a transformer.

    Parameters
    ----------
    eps : float
        Budget of the query in the units of X, finite, ≥ 0.
    gallery_eps : float, default=0.0
        Budget of every item of the gallery, ≥ 0.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    balanced : bool, default=False
        Whether the classes of the queries count the same, however many queries each has.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable. Every point in turn is the query, the others are the gallery. A lower bound on
        the robust Recall@1, larger is better. Queries without others of their class are left out,
        as in :func:`skrobust.metrics.recall_at_k`; with no others it raises a ValueError.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skrobust.scorers import certified_retrieval_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> scorer = certified_retrieval_scorer(eps=0.1)
    >>> 0 < scorer(StandardScaler().fit(X), X, y) < 1
    True
    """
    _check(threat_model)
    return _CertifiedRetrieval(
        check_one_eps(eps), check_one_eps(gallery_eps, name="gallery_eps"), threat_model, balanced
    )


def mean_certified_radius_scorer(
    cap: float | None = None,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "fast",
    balanced: bool = False,
) -> _MeanCertifiedRadius:
    """Make a scorer of the mean certified radius, 0 for misclassified points.

    Parameters
    ----------
    cap : float, default=None
        Radii above it count as `cap`; needed where a radius may be infinite (data of one
        class).
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    method : {"fast", "auto", "exact", "bound", "smoothing"}, default="fast"
        The proof; see :func:`skrobust.certify`.
    balanced : bool, default=False
        Whether the score is the mean over classes of their own mean radii.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable; larger is better.
    """
    if cap is not None:
        check_one_eps(cap, name="cap")
    _check(threat_model, method)
    return _MeanCertifiedRadius(threat_model, method, balanced, cap)


def certified_curve_scorer(
    eps: Iterable[float],
    cap: float | None = None,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "fast",
    balanced: bool = False,
    per_class: bool = False,
) -> _CertifiedCurve:
    """Make a scorer that certifies once and returns a dict of scores.

    Parameters
    ----------
    eps : iterable of float
        Budgets in the units of X, each finite, ≥ 0, no two alike.
    cap : float, default=None
        For the mean radius, see :func:`mean_certified_radius_scorer`. Without it, an infinite
        radius makes the mean infinite.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    method : {"fast", "auto", "exact", "bound", "smoothing"}, default="fast"
        The proof; see :func:`skrobust.certify`.
    balanced : bool, default=False
        Whether all scores are means over classes of their own means.
    per_class : bool, default=False
        Whether there is a share for each class, too, its recall: ``"certified@<eps>[<label>]"``.
        NaN where a class has no points.

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> dict``
        With the keys ``"accuracy"``, ``"certified@<eps>"`` for each budget,
        ``"mean_certified_radius"`` and ``"share_unreachable"``; for ``cross_validate`` and
        for a search with ``refit="certified@<eps>"``.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.scorers import certified_curve_scorer
    >>> knn = KNeighborsClassifier(1).fit([[0.0], [2.0]], [0, 1])
    >>> scores = certified_curve_scorer([0.1, 0.5])(knn, [[0.0], [0.9]], [0, 0])
    >>> scores["certified@0.1"], scores["certified@0.5"]
    (0.5, 0.5)
    """
    budgets = check_budgets(eps)
    if cap is not None:
        check_one_eps(cap, name="cap")
    _check(threat_model, method)
    return _CertifiedCurve(threat_model, method, balanced, budgets, cap, per_class)
