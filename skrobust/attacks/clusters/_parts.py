"""The parts of a fitted clustering, and its clusters before and after an attack."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted

from skrobust.attacks._result import EmbeddingAttackResult
from skrobust.metrics import clustering_scores
from skrobust.utils._frames import Table

__all__ = ["ClusteringAttackResult", "ClusteringParts"]


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
        ``"nmi"``, ``"ami"`` and ``"f1"`` against the true labels, in which noise is no cluster
        (see :func:`skrobust.metrics.pairwise_f1`): ``"clean"`` of all points, then
        after the attack of ``"all"``, and of the ``"touched"`` and the ``"untouched"`` ones where
        there are any; ``"untouched_clean"`` is what the latter had before.
    found : EmbeddingAttackResult
        The points that were moved.
    """

    X_adv: Any
    touched: np.ndarray
    labels: np.ndarray
    labels_adv: np.ndarray
    scores: dict[str, dict[str, float]]
    found: EmbeddingAttackResult

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {score['nmi']:.3f}" for name, score in self.scores.items())
        return (
            f"ClusteringAttackResult({int(self.touched.sum())} of {len(self.touched)} points "
            f"moved; NMI: {scores})"
        )

    @classmethod
    def of(
        cls,
        X_adv: Any,
        touched: np.ndarray,
        labels: np.ndarray,
        labels_adv: np.ndarray,
        y: np.ndarray,
        found: EmbeddingAttackResult,
    ) -> "ClusteringAttackResult":
        """Score clusters against the true labels."""
        scores = {"clean": clustering_scores(y, labels), "all": clustering_scores(y, labels_adv)}
        scores["touched"] = clustering_scores(y[touched], labels_adv[touched])
        if not touched.all():
            scores["untouched"] = clustering_scores(y[~touched], labels_adv[~touched])
            scores["untouched_clean"] = clustering_scores(y[~touched], labels[~touched])
        return cls(X_adv, touched, labels, labels_adv, scores, found)

    @property
    def spill_over(self) -> float:
        """NMI that the untouched points lost; NaN where all were touched."""
        if "untouched" not in self.scores:
            return float("nan")
        return self.scores["untouched_clean"]["nmi"] - self.scores["untouched"]["nmi"]


@dataclass(frozen=True, eq=False)
class ClusteringParts:
    """A fitted clustering: what embeds, and what clusters embeddings.

    Attributes
    ----------
    estimator : clusterer
        The whole.
    embedding : transformer
    clusterer : clusterer
        It takes embeddings.
    """

    estimator: Any
    embedding: Any
    clusterer: Any

    @classmethod
    def of(cls, estimator: Any) -> "ClusteringParts":
        """Return the parts of a Pipeline, a clustering on a metric, or a clusterer."""
        check_is_fitted(estimator)
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

    def cluster(self, Z: Any) -> np.ndarray:
        """Return the clusters of embeddings, fitted anew."""
        return np.asarray(clone(self.clusterer).fit_predict(Z))


class _Same:
    """The embedding that leaves points as they are."""

    def transform(self, X: Any) -> np.ndarray:
        """Return the points, flat."""
        return Table.of(X).values

    def _differentiable_embedding(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x.flatten(1)
