"""Scorers of certified robustness; every number is a lower bound on the truth."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skrobust.certificates import Certificate, certify_retrieval
from skrobust.certificates._request import model_or_l2
from skrobust.certify import certify, check_method
from skrobust.metrics import certified_accuracy_score, mean_certified_radius
from skrobust.threat_model import ThreatModel
from skrobust.utils._validation import check_eps, check_one_eps

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
) -> float:
    """Share of points that are right at every allowed perturbation of norm up to `eps`.

    Parameters
    ----------
    estimator : fitted classifier
        One that :func:`skrobust.certify.certify` takes: k-NN behind affine steps, prototypes,
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
        The proof; see :func:`skrobust.certify.certify`.

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
    budget = check_one_eps(eps)
    found = certify(estimator, X, y, threat_model=threat_model, method=method)
    return _score(found, budget)


def _check(threat_model: Any, method: str = "fast") -> None:
    """Raise before anything is fitted: inside a search, an error would be a score of NaN."""
    model_or_l2(threat_model)
    check_method(method)


def _score(certificate: Certificate, eps: Any) -> Any:
    return certified_accuracy_score(certificate.radius, certificate.correct, eps)


@dataclass(frozen=True)
class _CertifiedAccuracy:
    """Scorer of the certified accuracy at one budget."""

    eps: float
    threat_model: ThreatModel | None
    method: str

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        return certified_accuracy(
            estimator, X, y, self.eps, threat_model=self.threat_model, method=self.method
        )


@dataclass(frozen=True)
class _MeanCertifiedRadius:
    """Scorer of the mean certified radius."""

    cap: float | None
    threat_model: ThreatModel | None
    method: str

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        certificate = certify(estimator, X, y, threat_model=self.threat_model, method=self.method)
        return mean_certified_radius(certificate.radius, cap=self.cap)


@dataclass(frozen=True)
class _CertifiedCurve:
    """Scorer of several numbers from one certification."""

    eps: tuple[float, ...]
    cap: float | None
    threat_model: ThreatModel | None
    method: str

    def __call__(self, estimator: Any, X: Any, y: Any) -> dict[str, float]:
        certificate = certify(estimator, X, y, threat_model=self.threat_model, method=self.method)
        scores = {"accuracy": float(certificate.correct.mean())}
        for eps, share in zip(self.eps, _score(certificate, self.eps), strict=True):
            scores[f"certified@{eps:g}"] = float(share)
        unreachable = np.isinf(certificate.radius)
        if self.cap is not None or not unreachable.any():
            mean = mean_certified_radius(certificate.radius, cap=self.cap)
        else:
            mean = float("inf")
        scores["mean_certified_radius"] = mean
        scores["share_unreachable"] = float(unreachable.mean())
        return scores


def certified_accuracy_scorer(
    eps: float, *, threat_model: ThreatModel | None = None, method: str = "fast"
) -> _CertifiedAccuracy:
    """Make a scorer of the certified accuracy at one budget.

    Parameters
    ----------
    eps : float
        Budget in the units of X, finite, ≥ 0.
    threat_model : ThreatModel, default=None
        What the adversary may change; None is ℓ₂ on all features.
    method : {"fast", "auto", "exact", "bound", "smoothing"}, default="fast"
        The proof; see :func:`skrobust.certify.certify`.

    Returns
    -------
    callable ``(estimator, X, y) -> float``
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
    return _CertifiedAccuracy(check_one_eps(eps), threat_model, method)


@dataclass(frozen=True)
class _CertifiedAssignment:
    """Scorer of the points whose cluster cannot change."""

    eps: float
    threat_model: ThreatModel | None
    method: str

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        found = certify(estimator, X, threat_model=self.threat_model, method=self.method)
        return _score(found, self.eps)


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
        The proof; see :func:`skrobust.certify.certify`.

    Returns
    -------
    callable ``(estimator, X, y=None) -> float``
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


@dataclass(frozen=True)
class _CertifiedRetrieval:
    """Scorer of the queries whose item on top provably keeps its class."""

    eps: float
    gallery_eps: float
    threat_model: ThreatModel | None

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        found = certify_retrieval(
            estimator, X, y, threat_model=self.threat_model, gallery_eps=self.gallery_eps
        )
        return _score(found, self.eps)


def certified_retrieval_scorer(
    eps: float, *, gallery_eps: float = 0.0, threat_model: ThreatModel | None = None
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

    Returns
    -------
    callable ``(estimator, X, y) -> float``
        Picklable. Every point in turn is the query, the others are the gallery. A lower bound on
        the robust Recall@1, larger is better.

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
        check_one_eps(eps), check_one_eps(gallery_eps, name="gallery_eps"), threat_model
    )


def mean_certified_radius_scorer(
    cap: float | None = None,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "fast",
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
        The proof; see :func:`skrobust.certify.certify`.

    Returns
    -------
    callable ``(estimator, X, y) -> float``
        Picklable; larger is better.
    """
    if cap is not None:
        check_one_eps(cap, name="cap")
    _check(threat_model, method)
    return _MeanCertifiedRadius(cap, threat_model, method)


def certified_curve_scorer(
    eps: Iterable[float],
    cap: float | None = None,
    *,
    threat_model: ThreatModel | None = None,
    method: str = "fast",
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
        The proof; see :func:`skrobust.certify.certify`.

    Returns
    -------
    callable ``(estimator, X, y) -> dict``
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
    budgets = tuple(check_eps(eps).tolist())
    if len({f"{value:g}" for value in budgets}) < len(budgets):
        raise ValueError(f"eps must not hold a value twice (six digits count); got {budgets}.")
    if cap is not None:
        check_one_eps(cap, name="cap")
    _check(threat_model, method)
    return _CertifiedCurve(budgets, cap, threat_model, method)
