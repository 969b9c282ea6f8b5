r"""Retrieval by an embedding: each item searches for its like.

For a query with R other items of its class in the gallery, and rel(i) = 1 where the i-th nearest
item is one of them,

    Recall@K = [Σ_{i ≤ K} rel(i) > 0],      R-precision = 1/R Σ_{i ≤ R} rel(i),
    mAP@R = 1/R Σ_{i ≤ R} P(i) rel(i),       P(i) = 1/i Σ_{j ≤ i} rel(j),

averaged over the queries with R > 0 (Musgrave, Belongie and Lim, *A metric learning reality check*,
ECCV 2020). Where the queries are the items of the gallery, the query itself is left out **by its
index**, not by its distance: copies of it stay. Queries with labels of their own are other items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d, gen_batches

from skrobust.utils._validation import check_kind_of_labels
from skrobust.utils._weights import check_weight, weighted_mean

__all__ = ["mean_average_precision_at_r", "r_precision", "recall_at_k"]

_ENTRIES = 20_000_000


def recall_at_k(
    embedding: Any,
    y: Any,
    k: Any = 1,
    *,
    queries: Any = None,
    y_queries: Any = None,
    sample_weight: Any = None,
) -> Any:
    """Share of queries with an item of their class among the K nearest.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        The gallery: embeddings of clean items.
    y : array-like of shape (n_samples,)
        Labels.
    k : int or array-like of int, default=1
        K, at most the number of items that a query searches.
    queries : array-like of shape (n_queries, n_components), default=None
        Embeddings of the queries. Without `y_queries` they are the items of the gallery in the
        same order, perturbed perhaps; None takes the gallery itself.
    y_queries : array-like of shape (n_queries,), default=None
        Labels of queries that are no items of the gallery: nothing is left out then.
    sample_weight : array-like of shape (n_queries,), default=None
        How much each query counts, ≥ 0; None counts all alike.

    Returns
    -------
    float, or ndarray for several K
        Over the queries whose class has other items; NaN where none has.

    Examples
    --------
    >>> from skrobust.metrics import recall_at_k
    >>> recall_at_k([[0.0], [0.1], [0.3], [5.0]], ["a", "a", "b", "b"], [1, 3])
    array([0.75, 1.  ])
    >>> recall_at_k([[0.0], [5.0]], ["a", "b"], queries=[[1.0], [2.0]], y_queries=["a", "b"])
    0.5
    """
    several = np.atleast_1d(np.asarray(k))
    search = _Search.of(embedding, y, queries, y_queries, sample_weight)
    if several.dtype.kind not in "iu" or not ((several > 0) & (several <= search.size)).all():
        raise ValueError(f"k must be integers from 1 to {search.size}; got {k!r}.")
    hits = [r.cumsum(1)[:, several - 1] > 0 for r, _ in search.ranked(several.max())]
    shares = search.mean(np.concatenate(hits))
    return float(shares[0]) if np.ndim(k) == 0 else shares


def mean_average_precision_at_r(
    embedding: Any,
    y: Any,
    *,
    queries: Any = None,
    y_queries: Any = None,
    sample_weight: Any = None,
) -> float:
    """Mean average precision among the R nearest, R the number of items of the query's class.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        The gallery: embeddings of clean items.
    y : array-like of shape (n_samples,)
        Labels.
    queries : array-like of shape (n_queries, n_components), default=None
        Embeddings of the queries. Without `y_queries` they are the items of the gallery in the
        same order, perturbed perhaps; None takes the gallery itself.
    y_queries : array-like of shape (n_queries,), default=None
        Labels of queries that are no items of the gallery: nothing is left out then.
    sample_weight : array-like of shape (n_queries,), default=None
        How much each query counts, ≥ 0; None counts all alike.

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
    return _over_r(_Search.of(embedding, y, queries, y_queries, sample_weight), weighted=True)


def r_precision(
    embedding: Any,
    y: Any,
    *,
    queries: Any = None,
    y_queries: Any = None,
    sample_weight: Any = None,
) -> float:
    """Share of items of the query's class among the R nearest, R their number.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        The gallery: embeddings of clean items.
    y : array-like of shape (n_samples,)
        Labels.
    queries : array-like of shape (n_queries, n_components), default=None
        Embeddings of the queries. Without `y_queries` they are the items of the gallery in the
        same order, perturbed perhaps; None takes the gallery itself.
    y_queries : array-like of shape (n_queries,), default=None
        Labels of queries that are no items of the gallery: nothing is left out then.
    sample_weight : array-like of shape (n_queries,), default=None
        How much each query counts, ≥ 0; None counts all alike.

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
    return _over_r(_Search.of(embedding, y, queries, y_queries, sample_weight), weighted=False)


def _over_r(search: "_Search", *, weighted: bool) -> float:
    R = search.n_relevant
    values = []
    for relevant, rows in search.ranked(max(int(R.max()), 1)):
        place = np.arange(1, relevant.shape[1] + 1)
        counted = relevant & (place <= R[rows, None])
        weight = counted.cumsum(1) / place if weighted else np.ones(relevant.shape)
        values.append((weight * counted).sum(1))
    return float(search.mean(np.concatenate(values) / np.maximum(R, 1)))


@dataclass(frozen=True, eq=False)
class _Search:
    """A gallery and its queries, checked.

    Attributes
    ----------
    Z : ndarray of shape (n_samples, n_components)
    y : ndarray of shape (n_samples,)
    Q : ndarray of shape (n_queries, n_components)
    y_queries : ndarray of shape (n_queries,)
    own : bool
        The queries are the items of the gallery, in their order.
    weight : ndarray of shape (n_queries,) or None
    """

    Z: np.ndarray
    y: np.ndarray
    Q: np.ndarray
    y_queries: np.ndarray
    own: bool
    weight: np.ndarray | None

    @classmethod
    def of(cls, embedding: Any, y: Any, queries: Any, y_queries: Any, sample_weight: Any) -> Self:
        own = y_queries is None
        least = 2 if own else 1
        Z = check_array(
            embedding, dtype=np.float64, ensure_min_samples=least, input_name="embedding"
        )
        y = column_or_1d(y)
        check_consistent_length(Z, y)
        if queries is None and not own:
            raise ValueError("queries must be given where y_queries is; got None.")
        Q = Z if queries is None else check_array(queries, dtype=np.float64, input_name="queries")
        if own and Q.shape != Z.shape:
            raise ValueError(
                f"queries must have the shape of embedding, {Z.shape}; got {Q.shape}. Queries that "
                "are no items of the gallery need their labels, y_queries."
            )
        if Q.shape[1] != Z.shape[1]:
            raise ValueError(
                f"queries must have {Z.shape[1]} components, as embedding has; got {Q.shape[1]}."
            )
        labels = y if own else column_or_1d(y_queries)
        check_consistent_length(Q, labels)
        check_kind_of_labels(labels, y)
        center = Z.mean(axis=0)  # an offset would cost digits
        return cls(Z - center, y, Q - center, labels, own, check_weight(sample_weight, len(Q)))

    @property
    def size(self) -> int:
        """The number of items that a query searches."""
        return len(self.Z) - self.own

    @cached_property
    def n_relevant(self) -> np.ndarray:
        """R of each query."""
        labels, counts = np.unique(self.y, return_counts=True)
        place = np.searchsorted(labels, self.y_queries).clip(max=len(labels) - 1)
        return np.where(labels[place] == self.y_queries, counts[place], 0) - self.own

    def mean(self, values: np.ndarray) -> Any:
        """Return the mean of values, (n_queries, ...), over the queries with R > 0."""
        some = self.n_relevant > 0
        if not some.any():
            return np.full(values.shape[1:], np.nan)
        return weighted_mean(values[some].T, None if self.weight is None else self.weight[some])

    def ranked(self, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, for batches of queries, which of the k nearest items are of their class."""
        squares, everything = (self.Z**2).sum(1), np.arange(len(self.Q))
        for batch in gen_batches(len(self.Q), max(1, _ENTRIES // len(self.Z))):
            rows = everything[batch]
            D = squares - 2 * self.Q[rows] @ self.Z.T  # without what all items share
            if self.own:
                D[np.arange(len(rows)), rows] = np.inf
            near = np.argpartition(D, k - 1, axis=1)[:, :k]
            order = np.argsort(np.take_along_axis(D, near, 1), axis=1, kind="stable")
            near = np.take_along_axis(near, order, 1)
            yield self.y[near] == self.y_queries[rows, None], rows
