r"""Retrieval by an embedding: each item asks for its like.

For a query with R other items of its class in the gallery, and rel(i) = 1 where the i-th nearest
item is one of them,

    Recall@K = [Σ_{i ≤ K} rel(i) > 0],      R-precision = 1/R Σ_{i ≤ R} rel(i),
    mAP@R = 1/R Σ_{i ≤ R} P(i) rel(i),       P(i) = 1/i Σ_{j ≤ i} rel(j),

averaged over the queries with R > 0 (Musgrave, Belongie and Lim, *A metric learning reality check*,
ECCV 2020). The query itself is left out **by its index**, not by its distance: copies of it stay.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d, gen_batches

__all__ = ["mean_average_precision_at_r", "r_precision", "recall_at_k"]

_ENTRIES = 20_000_000


def recall_at_k(embedding: Any, y: Any, k: Any = 1, *, queries: Any = None) -> Any:
    """Share of queries with an item of their class among the K nearest.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        The gallery: embeddings of clean items.
    y : array-like of shape (n_samples,)
        Labels.
    k : int or array-like of int, default=1
        K, less than the number of items.
    queries : array-like of shape (n_samples, n_components), default=None
        Embeddings of the same items in the same order, perturbed perhaps; None asks with the
        gallery itself.

    Returns
    -------
    float, or ndarray for several K

    Examples
    --------
    >>> from skrobust.metrics import recall_at_k
    >>> recall_at_k([[0.0], [0.1], [0.3], [5.0]], ["a", "a", "b", "b"], [1, 3])
    array([0.75, 1.  ])
    """
    several = np.atleast_1d(np.asarray(k))
    Z, y, Q = _checked(embedding, y, queries)
    if several.dtype.kind not in "iu" or not ((several > 0) & (several < len(y))).all():
        raise ValueError(f"k must be integers from 1 to {len(y) - 1}; got {k!r}.")
    found = np.concatenate(
        [relevant.cumsum(1)[:, several - 1] > 0 for relevant, _ in _ranked(Z, y, Q, several.max())]
    ).mean(axis=0)
    return float(found[0]) if np.ndim(k) == 0 else found


def mean_average_precision_at_r(embedding: Any, y: Any, *, queries: Any = None) -> float:
    """Mean average precision among the R nearest, R the number of items of the query's class.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        The gallery: embeddings of clean items.
    y : array-like of shape (n_samples,)
        Labels.
    queries : array-like of shape (n_samples, n_components), default=None
        Embeddings of the same items, perturbed perhaps; None asks with the gallery itself.

    Returns
    -------
    float
        Over the queries whose class has other items; NaN where none has.

    Examples
    --------
    >>> from skrobust.metrics import mean_average_precision_at_r
    >>> mean_average_precision_at_r([[0.0], [0.1], [0.25], [9.0]], ["a", "a", "b", "b"])
    0.75
    """
    return _over_r(embedding, y, queries, weighted=True)


def r_precision(embedding: Any, y: Any, *, queries: Any = None) -> float:
    """Share of items of the query's class among the R nearest, R their number.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        The gallery: embeddings of clean items.
    y : array-like of shape (n_samples,)
        Labels.
    queries : array-like of shape (n_samples, n_components), default=None
        Embeddings of the same items, perturbed perhaps; None asks with the gallery itself.

    Returns
    -------
    float
        Over the queries whose class has other items; NaN where none has.

    Examples
    --------
    >>> from skrobust.metrics import r_precision
    >>> r_precision([[0.0], [0.1], [0.25], [9.0]], ["a", "a", "b", "b"])
    0.75
    """
    return _over_r(embedding, y, queries, weighted=False)


def _over_r(embedding: Any, y: Any, queries: Any, *, weighted: bool) -> float:
    Z, y, Q = _checked(embedding, y, queries)
    _, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    R = counts[inverse] - 1
    values = []
    for relevant, rows in _ranked(Z, y, Q, max(int(R.max()), 1)):
        place = np.arange(1, relevant.shape[1] + 1)
        counted = relevant & (place <= R[rows, None])
        weight = counted.cumsum(1) / place if weighted else np.ones(relevant.shape)
        values.append((weight * counted).sum(1))
    total, some = np.concatenate(values), R > 0
    return float((total[some] / R[some]).mean()) if some.any() else float("nan")


def _checked(embedding: Any, y: Any, queries: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    Z = check_array(embedding, dtype=np.float64, ensure_min_samples=2, input_name="embedding")
    y = column_or_1d(y)
    Q = Z if queries is None else check_array(queries, dtype=np.float64, input_name="queries")
    check_consistent_length(Z, y, Q)
    if Q.shape != Z.shape:
        raise ValueError(f"queries must have the shape of embedding, {Z.shape}; got {Q.shape}.")
    center = Z.mean(axis=0)  # an offset would cost digits
    return Z - center, y, Q - center


def _ranked(
    Z: np.ndarray, y: np.ndarray, Q: np.ndarray, k: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for batches of queries, which of the k nearest items are of their class."""
    squares, everything = (Z**2).sum(1), np.arange(len(Z))
    for batch in gen_batches(len(Z), max(1, _ENTRIES // len(Z))):
        rows = everything[batch]
        D = squares - 2 * Q[rows] @ Z.T  # without what all items share
        D[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(D, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(D, near, 1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, 1)
        yield y[near] == y[rows, None], rows
