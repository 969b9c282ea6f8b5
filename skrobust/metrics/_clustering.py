r"""Agreement of clusters with classes, over pairs of points.

With n_ij the points of class j in cluster i,

    TP = Σ_ij C(n_ij, 2),     P = TP / Σ_i C(n_i·, 2),     R = TP / Σ_j C(n_·j, 2),

    F1 = 2 P R / (P + R).

With weights of points, n_ij is their sum and a pair counts the product of its two weights.

A point that a clusterer takes for noise (label -1, as in scikit-learn) is in no cluster: it is
together with none in F1, and has no part in the mutual information, which is that of the other
points times their share. As one cluster, noise would be praised: F1 = .66 for two classes.
"""

from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.utils import check_consistent_length, column_or_1d

from skrobust.utils._weights import check_weight, weight_or_ones

__all__ = ["clustering_scores", "pairwise_f1"]


def clustering_scores(
    labels_true: Any, labels_pred: Any, *, sample_weight: Any = None
) -> dict[str, float]:
    """Agreement of clusters with classes: NMI, AMI and pairwise F1.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (n_samples,)
        Classes and clusters; -1 in the latter is noise.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of points, ≥ 0; None counts all alike. With weights there is no ``"ami"``: what it
        expects by chance is a mean over permutations of points that count alike.

    Returns
    -------
    dict of str to float
        ``"nmi"``, ``"ami"`` and ``"f1"``; larger is better.

    Examples
    --------
    >>> from skrobust.metrics import clustering_scores
    >>> {name: round(score, 3) for name, score in clustering_scores([0, 0, 1], [1, 1, 0]).items()}
    {'nmi': 1.0, 'ami': 1.0, 'f1': 1.0}
    """
    true, pred = column_or_1d(labels_true), column_or_1d(labels_pred)
    f1 = pairwise_f1(true, pred, sample_weight=sample_weight)
    weight = check_weight(sample_weight, len(true))
    inside = ~_noise(pred)
    share = float(np.average(inside, weights=weight))
    if share == 0:
        return {"nmi": 0.0, "f1": f1} if weight is not None else {"nmi": 0.0, "ami": 0.0, "f1": f1}
    true, pred = true[inside], pred[inside]
    if weight is not None:
        return {"nmi": share * _weighted_nmi(true, pred, weight[inside]), "f1": f1}
    return {
        "nmi": share * float(normalized_mutual_info_score(true, pred)),
        "ami": share * float(adjusted_mutual_info_score(true, pred)),
        "f1": f1,
    }


def pairwise_f1(labels_true: Any, labels_pred: Any, *, sample_weight: Any = None) -> float:
    """F1 of "the two points are together", clusters against classes.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (n_samples,)
        Classes and clusters; -1 in the latter is noise, each point of which is by itself.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of points, ≥ 0: a pair counts the product of its two. None counts all alike.

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
    weight = weight_or_ones(sample_weight, len(labels_true))
    weight = weight / weight.max()
    true, pred, both = _codes(labels_true[weight > 0], _noise_as_clusters(labels_pred[weight > 0]))
    weight = weight[weight > 0]

    def pairs(codes: np.ndarray) -> float:
        total = np.bincount(codes, weights=weight)
        squares = np.bincount(codes, weights=weight**2)
        # rounding leaves something of a point that is alone
        return float((total**2 - squares)[np.bincount(codes) > 1].sum())

    together = pairs(true) + pairs(pred)
    if together == 0:  # all points alone in both
        return 1.0
    return 2 * pairs(both) / together


def _noise(labels_pred: np.ndarray) -> np.ndarray:
    """Return the mask of the points in no cluster."""
    if labels_pred.dtype.kind not in "if":
        return np.zeros(len(labels_pred), dtype=bool)
    return np.asarray(labels_pred == -1)


def _noise_as_clusters(labels_pred: np.ndarray) -> np.ndarray:
    """Return numbers of clusters, with one of its own for each point of noise."""
    noise = _noise(labels_pred)
    numbers = np.unique(labels_pred, return_inverse=True)[1]
    return np.where(noise, numbers.max(initial=0) + 1 + np.arange(len(numbers)), numbers)


def _weighted_nmi(labels_true: Any, labels_pred: Any, sample_weight: Any) -> float:
    """Return scikit-learn's NMI (arithmetic mean of the entropies) of weighted points."""
    labels_true, labels_pred = column_or_1d(labels_true), column_or_1d(labels_pred)
    check_consistent_length(labels_true, labels_pred)
    weight: Any = check_weight(sample_weight, len(labels_true))
    counted = weight > 0

    def entropy(codes: np.ndarray) -> float:
        share = np.bincount(codes, weights=weight[counted] / weight.sum())
        return float(-(share[share > 0] * np.log(share[share > 0])).sum())

    true, pred, both = (entropy(c) for c in _codes(labels_true[counted], labels_pred[counted]))
    if true + pred <= 0:  # one class and one cluster
        return 1.0
    return float(np.clip(2 * (true + pred - both) / (true + pred), 0, 1))


def _codes(labels_true: np.ndarray, labels_pred: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the numbers of each point's class, cluster, and cell of the table of both."""
    true = np.unique(labels_true, return_inverse=True)[1]
    pred = np.unique(labels_pred, return_inverse=True)[1]
    both = np.unique(true * (pred.max() + 1) + pred, return_inverse=True)[1]
    return true, pred, both
