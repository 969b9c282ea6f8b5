r"""Attacks on a clustering: move points, cluster anew (or not), and see what became of the groups.

transductive   the adversary moves points, and all of them are clustered anew;
partial        the same, with a share ρ of the points: the others may change their clusters
although nobody touched them (spill-over);
inductive      the clusters stay, and moved points are assigned to them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted

from skrobust.attacks._base import model_or_default
from skrobust.attacks._embedding import BaseEmbeddingAttack, EmbeddingAttackResult
from skrobust.attacks._embedding_moves import EmbeddingShift
from skrobust.metrics import pairwise_f1
from skrobust.utils._frames import Table
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["ClusteringAttack", "ClusteringAttackResult"]


@dataclass(frozen=True, eq=False)
class ClusteringAttackResult:
    """Clusters before and after an attack.

    Attributes
    ----------
    X_adv : array or data frame of shape (n_samples, ...)
        All points, the moved ones among them.
    touched : ndarray of shape (n_samples,) of bool
        Which were moved.
    labels, labels_adv : ndarray of shape (n_samples,)
        Clusters of the clean points, and after the attack.
    scores : dict of str to dict of str to float
        ``"nmi"``, ``"ami"`` and ``"f1"`` against the true labels: ``"clean"`` of all points, then
        after the attack of ``"all"``, and of the ``"touched"`` and the ``"untouched"`` ones where
        there are any; ``"untouched_clean"`` is what the latter had before.
    found : EmbeddingAttackResult
        Of the points that were moved.
    """

    X_adv: Any
    touched: np.ndarray
    labels: np.ndarray
    labels_adv: np.ndarray
    scores: dict[str, dict[str, float]]
    found: EmbeddingAttackResult

    @property
    def spill_over(self) -> float:
        """NMI that the untouched points lost; NaN where all were touched."""
        if "untouched" not in self.scores:
            return float("nan")
        return self.scores["untouched_clean"]["nmi"] - self.scores["untouched"]["nmi"]


class ClusteringAttack(BaseEstimator):
    """Attack a fitted clustering through its embedding.

    Parameters
    ----------
    attack : attack on embeddings, default=None
        How points are moved, with a budget; None is ``EmbeddingShift()``.
    mode : {"transductive", "inductive"}, default="transductive"
        Whether all points are clustered anew.
    share : float, default=1.0
        ρ, share of the points that are moved, in (0, 1].
    groups : {"labels", "clusters"}, default="labels"
        What an attack that needs groups takes: the true labels, or the clusters of the clean
        points, which an adversary without labels can find out.
    random_state : int, RandomState or None, default=None
        Which points are moved.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_iris
    >>> from skrobust import ThreatModel
    >>> from skrobust.attacks import ClusteringAttack, EmbeddingMargin
    >>> X, y = load_iris(return_X_y=True)
    >>> margin = EmbeddingMargin(threat_model=ThreatModel(eps=1.0), random_state=0)
    >>> clusters = KMeans(3, n_init=4, random_state=0).fit(X)
    >>> found = ClusteringAttack(margin, share=0.5, random_state=0).run(clusters, X, y)
    >>> bool(found.scores["all"]["nmi"] < found.scores["clean"]["nmi"])
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "attack": [BaseEmbeddingAttack, None],
        "mode": [StrOptions({"transductive", "inductive"})],
        "share": [Interval(Real, 0, 1, closed="right")],
        "groups": [StrOptions({"labels", "clusters"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        attack: BaseEmbeddingAttack | None = None,
        *,
        mode: str = "transductive",
        share: float = 1.0,
        groups: str = "labels",
        random_state: Any = None,
    ):
        self.attack = attack
        self.mode = mode
        self.share = share
        self.groups = groups
        self.random_state = random_state

    def run(self, estimator: Any, X: Any, y: Any) -> ClusteringAttackResult:
        """Attack a fitted clustering.

        Parameters
        ----------
        estimator : fitted clusterer
            Any of scikit-learn's, alone or last in a Pipeline whose other steps embed the points;
            or :class:`skrobust.AdversarialClustering`. In the transductive mode clones of it
            cluster the clean and the moved points; its embedding stays as it was fitted.
        X : array-like or data frame of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            True labels.

        Returns
        -------
        ClusteringAttackResult

        Raises
        ------
        TypeError
            If the estimator is no clusterer, or its embedding has no gradients that are known
            (an attack with ``gradient="nes"`` does without).
        ValueError
            If a parameter is not as described, or the mode needs a method `predict` that the
            clusterer does not have.
        """
        self._validate_params()
        check_is_fitted(estimator)
        parts = _Parts.of(estimator)
        if self.mode == "inductive" and not hasattr(estimator, "predict"):
            raise ValueError(
                "mode='inductive' needs a clusterer with predict; "
                f"{type(parts.clusterer).__name__} has none: use mode='transductive'."
            )
        y = column_or_1d(y)
        table = Table.of(X)
        if len(y) != len(table):
            raise ValueError(f"y must have {len(table)} labels; got {len(y)}.")
        labels = self._cluster(parts, X)
        rows = np.arange(len(y))
        n = max(1, round(self.share * len(y)))
        chosen = np.sort(check_random_state(self.random_state).permutation(rows)[:n])
        touched = np.isin(rows, chosen)
        attack = EmbeddingShift() if self.attack is None else clone(self.attack)
        groups = y if self.groups == "labels" else labels
        some = table.rebuild(table.values[chosen], chosen)
        # groups have the means of all points
        gallery = np.asarray(parts.embedding.transform(X), dtype=np.float64)
        model = model_or_default(attack.threat_model)
        found = attack._attack(parts.embedding, some, groups[chosen], model, gallery, groups)
        points = table.values.copy()
        points[chosen] = Table.of(found.X_adv).values
        X_adv = table.rebuild(points, rows)
        labels_adv = self._cluster(parts, X_adv)
        scores = {"clean": _scores(y, labels), "all": _scores(y, labels_adv)}
        scores["touched"] = _scores(y[touched], labels_adv[touched])
        if not touched.all():
            scores["untouched"] = _scores(y[~touched], labels_adv[~touched])
            scores["untouched_clean"] = _scores(y[~touched], labels[~touched])
        return ClusteringAttackResult(X_adv, touched, labels, labels_adv, scores, found)

    def _cluster(self, parts: "_Parts", X: Any) -> np.ndarray:
        if self.mode == "inductive":
            return np.asarray(parts.estimator.predict(X))
        return np.asarray(clone(parts.clusterer).fit_predict(parts.embedding.transform(X)))


@dataclass(frozen=True, eq=False)
class _Parts:
    """A fitted clustering: what embeds, and what clusters embeddings."""

    estimator: Any
    embedding: Any
    clusterer: Any

    @classmethod
    def of(cls, estimator: Any) -> "_Parts":
        """Take a Pipeline, a clustering on a metric, or a clusterer apart."""
        last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        if not hasattr(last, "fit_predict"):
            raise TypeError(
                f"estimator must be a clusterer, or a Pipeline that ends with one; got "
                f"{type(last).__name__}."
            )
        front: Any = _Same()
        if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
            front = estimator[:-1]
        if getattr(last, "metric_", None) is not None:
            front = last.metric_ if isinstance(front, _Same) else make_pipeline(front, last.metric_)
        if hasattr(last, "metric_"):
            last = clone(last).set_params(metric=None)
        return cls(estimator, front, last)


class _Same:
    """The embedding that leaves points as they are."""

    def transform(self, X: Any) -> np.ndarray:
        """Return the points, flat."""
        return Table.of(X).values

    def _differentiable_embedding(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x.flatten(1)


def _scores(y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {
        "nmi": float(normalized_mutual_info_score(y, labels)),
        "ami": float(adjusted_mutual_info_score(y, labels)),
        "f1": float(pairwise_f1(y, labels)),
    }
