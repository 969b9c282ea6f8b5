"""Scorers of clusterings under attack; every number is an upper bound on the truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import column_or_1d

from skrobust.attacks import ClusteringAttack, ClusteringAttackResult
from skrobust.metrics import clustering_scores
from skrobust.scorers._base import RobustnessScorer
from skrobust.utils._validation import check_count
from skrobust.utils._weights import check_weight

__all__ = ["reseeding_floor", "robust_clustering_scorer", "robust_clustering_scores"]

_METRICS = ("nmi", "ami", "f1")


@dataclass(unsafe_hash=True)
class _RobustClustering(RobustnessScorer):
    """Scorer of one metric of the clusters of attacked points."""

    attack: ClusteringAttack
    metric: str

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        weight = check_weight(sample_weight, len(y))
        if weight is not None and self.metric == "ami":
            raise ValueError(
                "metric='ami' takes no sample_weight: what it expects by chance is a mean over "
                "permutations of points that count alike. Use 'nmi' or 'f1'."
            )
        return _scores(clone(self.attack).run(estimator, X, y), y, weight)["all"][self.metric]


@dataclass(unsafe_hash=True)
class _RobustClusteringScores(RobustnessScorer):
    """Scorer of all metrics, clean and attacked, from one attack."""

    attack: ClusteringAttack

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None
    ) -> dict[str, float]:
        weight = check_weight(sample_weight, len(y))
        parts = _scores(clone(self.attack).run(estimator, X, y), y, weight)
        scores = dict(parts["clean"])
        scores |= {f"robust_{name}": score for name, score in parts["all"].items()}
        if "untouched" in parts:
            scores |= {f"untouched_{name}": score for name, score in parts["untouched"].items()}
            scores["spill_over"] = parts["untouched_clean"]["nmi"] - parts["untouched"]["nmi"]
        return scores


def _scores(
    result: ClusteringAttackResult, y: Any, weight: np.ndarray | None
) -> dict[str, dict[str, float]]:
    """Return an attack's scores, those of weighted points where there are weights."""
    if weight is None:
        return result.scores
    y, rest = column_or_1d(y), ~result.touched
    scores = {
        "clean": clustering_scores(y, result.labels, sample_weight=weight),
        "all": clustering_scores(y, result.labels_adv, sample_weight=weight),
    }
    if weight[rest].any():
        for name, labels in (("", result.labels_adv), ("_clean", result.labels)):
            scores["untouched" + name] = clustering_scores(
                y[rest], labels[rest], sample_weight=weight[rest]
            )
    return scores


def robust_clustering_scorer(attack: ClusteringAttack, metric: str = "nmi") -> _RobustClustering:
    """Make a scorer of the clusters of attacked points against the true labels.

    Parameters
    ----------
    attack : ClusteringAttack
    metric : {"nmi", "ami", "f1"}, default="nmi"

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> float``
        Picklable; for ``scoring=``. Larger is better. In the transductive mode the points that
        are scored are clustered anew. Weights are those of points in the score, not in the
        clustering; "ami" takes none.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import KFold, cross_val_score
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import ClusteringAttack, EmbeddingMargin
    >>> from skrobust.scorers import robust_clustering_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> margin = EmbeddingMargin(threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> scorer = robust_clustering_scorer(ClusteringAttack(margin))
    >>> model = KMeans(3, n_init=4, random_state=0)
    >>> folds = KFold(3, shuffle=True, random_state=0)
    >>> bool(cross_val_score(model, X, y, scoring=scorer, cv=folds).mean() < 0.7)
    True
    """
    if metric not in _METRICS:
        raise ValueError(f"metric must be one of {list(_METRICS)}; got {metric!r}.")
    return _RobustClustering(_check(attack), metric)


def robust_clustering_scores(attack: ClusteringAttack) -> _RobustClusteringScores:
    """Make a scorer that attacks once and returns a dict.

    Parameters
    ----------
    attack : ClusteringAttack

    Returns
    -------
    callable ``(estimator, X, y, sample_weight=None) -> dict``
        With ``"nmi"``, ``"ami"`` and ``"f1"`` of the clean points, ``"robust_…"`` of all points
        after the attack and, where only a share is moved, ``"untouched_…"`` of the others and
        ``"spill_over"``, the NMI that these lost. With weights there is no AMI. For
        ``cross_validate``, and for a search with ``refit="robust_nmi"``.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import ClusteringAttack, EmbeddingMargin
    >>> from skrobust.scorers import robust_clustering_scores
    >>> X, y = load_iris(return_X_y=True)
    >>> margin = EmbeddingMargin(threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> scorer = robust_clustering_scores(ClusteringAttack(margin, share=0.2, random_state=0))
    >>> scores = scorer(KMeans(3, n_init=4, random_state=0).fit(X), X, y)
    >>> scores["robust_nmi"] < scores["nmi"]
    True
    """
    return _RobustClusteringScores(_check(attack))


def reseeding_floor(clusterer: Any, Z: Any, y: Any, *, n_repeats: int = 5, seed: int = 0) -> float:
    """Return how much NMI changes when nothing but the seed of a clusterer does.

    A loss of NMI under an attack that is not larger says nothing.

    Parameters
    ----------
    clusterer : clusterer
        With a parameter `random_state`, or without: then the floor is 0.
    Z : array-like of shape (n_samples, n_components)
        Clean points or embeddings.
    y : array-like of shape (n_samples,)
        True labels. A metric inside that needs them is fitted with them.
    n_repeats : int, default=5
        Seeds, at least 2.
    seed : int, default=0
        The first of them.

    Returns
    -------
    float
        Largest minus smallest NMI.

    Examples
    --------
    >>> from sklearn.cluster import AgglomerativeClustering
    >>> from sklearn.datasets import load_iris
    >>> from skrobust.scorers import reseeding_floor
    >>> reseeding_floor(AgglomerativeClustering(3), *load_iris(return_X_y=True))
    0.0
    """
    check_count(n_repeats, 2, name="n_repeats")
    scores = []
    for k in range(n_repeats):
        model = clone(clusterer)
        if "random_state" in model.get_params():
            model.set_params(random_state=seed + k)
        scores.append(clustering_scores(y, model.fit_predict(Z, y))["nmi"])
    return float(np.ptp(scores))


def _check(attack: Any) -> ClusteringAttack:
    if not isinstance(attack, ClusteringAttack):
        raise TypeError(f"attack must be a ClusteringAttack; got {attack!r}.")
    return attack
