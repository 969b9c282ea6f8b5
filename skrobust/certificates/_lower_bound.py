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

__all__ = ["lower_bound", "solved_batches", "votes"]

_TRIES = 20


def votes(rule: NearestNeighborRule) -> tuple[int, int]:
    """Return a = ⌈K/2⌉ and b = ⌊K/2⌋ + 1."""
    return (rule.n_neighbors + 1) // 2, rule.n_neighbors // 2 + 1


def solved_batches(
    rule: NearestNeighborRule,
    training: TrainingSet,
    queries: EmbeddedQueries,
    labels: np.ndarray,
    radius: np.ndarray,
    cap_factor: float,
) -> Iterator[tuple[np.ndarray, ClassBatch, np.ndarray]]:
    """Solve the queries in batches of one class that fit in memory; fill `radius`.

    The victim's rounding is bounded within a cap. Rows whose cap turns out too small or much
    too large come again with another one; every cap gives a sound radius, the largest stands.

    Yields
    ------
    rows : ndarray of int
        Rows of `queries`.
    batch : ClassBatch
        Solved.
    settled : ndarray of bool
        Which of the rows will not come again.
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
        for part in row_batches(0, len(members), row_bytes, 2**30):
            rows = members[part]
            batch = ClassBatch(rule, training, queries, rows, int(label), a, b, cap_factor)
            for tries in range(_TRIES):
                found = to_numpy(batch.solve())
                radius[rows] = np.maximum(radius[rows], found)
                again, caps = _other_caps(found, to_numpy(batch.cap), tries)
                yield rows, batch, ~again
                if not again.any():
                    break
                rows, batch = rows[again], batch.subset(again, caps[again])


def _other_caps(found: np.ndarray, cap: np.ndarray, tries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that deserve another cap, and the caps."""
    too_small = np.isfinite(found) & (found >= cap) & (found > 0)
    too_large = (found > 0) & (found < cap / 64)
    hopeless = (found == 0) & (cap > 0) & (tries < 2)
    caps = np.select([too_small, too_large], [32 * cap, 4 * found], cap / 1024)
    again = too_small | too_large | hopeless
    return again & (tries < _TRIES - 1), caps


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
        for _ in solved_batches(rule, training, queries, labels, radius, 2.0):
            pass
    # strictly below the infimum
    inside = np.isfinite(radius) & (radius > 0)
    radius[inside] = np.nextafter(radius[inside], 0)
    return radius
