"""Pairs of points, as metric learners take them."""

from typing import Any

import numpy as np

__all__ = ["split_pairs"]


def split_pairs(X: Any, Y: Any) -> tuple[Any, Any]:
    """Return first and second points, from two arrays or from one array of pairs.

    Parameters
    ----------
    X : array-like of shape (n_pairs, ...), or (n_pairs, 2, ...) where Y is None
    Y : array-like of shape (n_pairs, ...) or None

    Raises
    ------
    ValueError
        If the shapes do not match.
    """
    if Y is None:
        pairs = np.asarray(X)
        if pairs.ndim < 3 or pairs.shape[1] != 2:
            raise ValueError(
                "X must have shape (n_pairs, 2, n_features) where Y is not given; got "
                f"{pairs.shape}."
            )
        return pairs[:, 0], pairs[:, 1]
    if len(X) != len(Y):
        raise ValueError(f"X and Y must hold the same number of points; got {len(X)} and {len(Y)}.")
    return X, Y
