"""Weights of samples: checked, balanced over classes, and the means that they make."""

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

__all__ = ["balanced_weight", "check_weight", "weight_or_ones", "weighted_mean"]


def check_weight(sample_weight: Any, n_samples: int) -> np.ndarray | None:
    """Return weights as float64; None, which weighs all samples alike, stays None.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
    n_samples : int

    Raises
    ------
    TypeError, ValueError
        If weights are no finite numbers ≥ 0, one for each sample, some of them > 0.
    """
    if sample_weight is None:
        return None
    try:
        weight = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"sample_weight must be numbers; got {sample_weight!r}.") from error
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must have shape (n_samples,) = ({n_samples},); got {weight.shape}."
        )
    bad = np.flatnonzero(~((weight >= 0) & (weight < np.inf)))
    if len(bad):
        raise ValueError(
            f"sample_weight must be finite and >= 0; sample_weight[{bad[0]}] is {weight[bad[0]]}."
        )
    if not weight.any():
        raise ValueError("sample_weight must be > 0 for at least one sample; all weights are zero.")
    return weight


def weight_or_ones(sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return checked weights; ones, which weigh all samples alike, for None."""
    weight = check_weight(sample_weight, n_samples)
    return np.ones(n_samples) if weight is None else weight


def weighted_mean(values: np.ndarray, weight: np.ndarray | None) -> Any:
    """Return the mean over the last axis; NaN where no sample has a weight.

    Parameters
    ----------
    values : ndarray of shape (..., n_samples)
    weight : ndarray of shape (n_samples,) or None
    """
    if weight is None:
        return values.mean(axis=-1)
    if not weight.any():
        return np.full(values.shape[:-1], np.nan)[()]
    return np.average(values, axis=-1, weights=weight / weight.max())


def balanced_weight(y: Any, weight: np.ndarray | None) -> np.ndarray:
    """Return weights under which all classes together weigh the same.

    The weighted mean is then that of the classes' own weighted means; a class whose weights are
    all 0 does not count.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    weight : ndarray of shape (n_samples,) or None
        Within each class.
    """
    _, encoded = np.unique(column_or_1d(y), return_inverse=True)
    weight = weight_or_ones(weight, len(encoded))
    total = np.bincount(encoded, weights=weight)[encoded]
    return np.divide(weight, total, out=np.zeros(len(weight)), where=total > 0)
