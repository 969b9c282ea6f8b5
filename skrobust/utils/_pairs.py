"""Pairs of points, as metric learners take them."""

from typing import Any

import numpy as np

__all__ = ["check_paired", "split_pairs"]


def split_pairs(X: Any, Y: Any) -> tuple[Any, Any]:
    """Return first and second points, from two arrays or from one array of pairs.

    Parameters
    ----------
    X : array-like of shape (n_pairs, ...), or (n_pairs, 2, ...) where Y is None
    Y : array-like of shape (n_pairs, ...) or None

    Raises
    ------
    ValueError
        If one array holds no pairs.
    """
    if Y is not None:
        return X, Y
    pairs = np.asarray(X)
    if pairs.ndim < 3 or pairs.shape[1] != 2:
        raise ValueError(
            f"X must have shape (n_pairs, 2, n_features) where Y is not given; got {pairs.shape}."
        )
    return pairs[:, 0], pairs[:, 1]


def check_paired(X: Any, Y: Any) -> None:
    """Raise a ValueError where checked first and second points differ in number."""
    if len(X) != len(Y):
        raise ValueError(f"X and Y must hold the same number of points; got {len(X)} and {len(Y)}.")
