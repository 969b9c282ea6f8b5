r"""Agreement of clusters with classes, over pairs of points.

With n_ij the points of class j in cluster i,

    TP = Σ_ij C(n_ij, 2),     P = TP / Σ_i C(n_i·, 2),     R = TP / Σ_j C(n_·j, 2),

    F1 = 2 P R / (P + R).
"""

from typing import Any

from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import check_consistent_length, column_or_1d

__all__ = ["agreement", "pairwise_f1"]


def agreement(labels_true: Any, labels_pred: Any) -> dict[str, float]:
    """Return ``"nmi"``, ``"ami"`` and ``"f1"`` of clusters against classes.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (n_samples,)
        Classes and clusters.
    """
    return {
        "nmi": float(normalized_mutual_info_score(labels_true, labels_pred)),
        "ami": float(adjusted_mutual_info_score(labels_true, labels_pred)),
        "f1": float(pairwise_f1(labels_true, labels_pred)),
    }


def pairwise_f1(labels_true: Any, labels_pred: Any) -> float:
    """F1 of "the two points are together", clusters against classes.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (n_samples,)
        Classes and clusters.

    Returns
    -------
    float
        1 for the same partition; 0 where no pair is together in both.

    Examples
    --------
    >>> from skrobust.metrics import pairwise_f1
    >>> round(pairwise_f1([0, 0, 1, 1], [0, 0, 0, 1]), 3)
    0.4
    """
    labels_true, labels_pred = column_or_1d(labels_true), column_or_1d(labels_pred)
    check_consistent_length(labels_true, labels_pred)
    table = contingency_matrix(labels_true, labels_pred, sparse=True).astype(float)

    def pairs(counts: Any) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both = pairs(table.data)
    together = pairs(table.sum(axis=0).A1) + pairs(table.sum(axis=1).A1)
    if together == 0:  # all points alone in both
        return 1.0
    return 2 * both / together
