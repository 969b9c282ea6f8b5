"""The k-NN lower bound of many points, class by class."""

from collections.abc import Iterator

import numpy as np
import torch

from skrobust.certificates._class_batch import ClassBatch
from skrobust.certificates._training_set import TrainingSet
from skrobust.numerics import row_batches
from skrobust.threat_model import FeatureBudget
from skrobust.utils._torch import exact_matmul, to_numpy
from skrobust.victims import EmbeddedQueries, NearestNeighborRule

__all__ = ["class_batches", "lower_bound", "votes"]


def votes(rule: NearestNeighborRule) -> tuple[int, int]:
    """Return a = ⌈K/2⌉ and b = ⌊K/2⌋ + 1."""
    return (rule.n_neighbors + 1) // 2, rule.n_neighbors // 2 + 1


def class_batches(
    rule: NearestNeighborRule,
    training: TrainingSet,
    queries: EmbeddedQueries,
    labels: np.ndarray,
    radius: np.ndarray,
) -> Iterator[tuple[np.ndarray, ClassBatch]]:
    """Cut the queries into batches of one class that fit in memory.

    Rows whose class has too few positives or negatives are settled in `radius` instead.

    Yields
    ------
    rows : ndarray of int
        Rows of `queries`.
    batch : ClassBatch
    """
    a, b = votes(rule)
    n_train = len(training.Z)
    for label in np.unique(labels[labels >= 0]):
        first, last = training.bounds[label]
        members = np.flatnonzero(labels == label)
        if last - first < b:
            continue
        if n_train - (last - first) < a:
            radius[members] = np.inf
            continue
        row_bytes = 3 * n_train * training.Z.element_size()
        for rows in row_batches(0, len(members), row_bytes, 2**30):
            chosen = members[rows]
            yield chosen, ClassBatch(rule, training, queries, chosen, int(label), a, b)


def lower_bound(
    rule: NearestNeighborRule,
    queries: EmbeddedQueries,
    labels: np.ndarray,
    budget: FeatureBudget,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Return the certified radius of each query.

    Parameters
    ----------
    rule : NearestNeighborRule
    queries : EmbeddedQueries of n_samples points
    labels : ndarray of shape (n_samples,), int64
        True labels as indices into ``rule.classes``; -1 for a label the rule has not seen.
    budget : FeatureBudget
        Norm, scales and mutable features of the adversary; its box is not used, which can
        only make the bound smaller.
    device : torch.device
    dtype : torch.dtype, default=None
        Precision of the search; None takes float64 for small problems, else float32.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        0 where nothing is proved, ``inf`` where no perturbation changes the prediction.
    """
    radius = np.zeros(len(labels))
    with torch.no_grad(), exact_matmul():
        training = TrainingSet.of(rule, budget, len(labels), device, dtype)
        for rows, batch in class_batches(rule, training, queries, labels, radius):
            radius[rows] = to_numpy(batch.solve())
    # strictly below the infimum
    inside = np.isfinite(radius) & (radius > 0)
    radius[inside] = np.nextafter(radius[inside], 0)
    return radius
