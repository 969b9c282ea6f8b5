"""Data as a fitted estimator reads them: which columns count as numbers to it."""

from contextlib import suppress
from typing import Any

import numpy as np
from sklearn.utils import check_array

from skrobust.utils._frames import Table, feature_names
from skrobust.utils._sklearn import dropped_features

__all__ = ["read_table"]


def read_table(X: Any, estimator: Any = None) -> Table:
    """Return X as numbers, checked: dense, two dimensions or more, not empty.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, ...), or a Table
        A Table comes back as it is.
    estimator : fitted estimator, default=None
        What X is for: its features, in its order, are those of the table. Columns that it drops
        do not count as numbers; text does where it reads it as numbers.
    """
    if isinstance(X, Table):
        return X
    names = feature_names(estimator)
    if not hasattr(X, "columns"):
        kinds = [np.float64, np.float32]
        X = check_array(X, dtype=kinds, allow_nd=True, ensure_all_finite=False, input_name="X")
        table = Table.of(X, names)
    else:
        table = Table.of(X, names)
        check_array(table.clean, input_name="X")
    dropped = dropped_features(estimator)
    if dropped is not None and len(dropped) == len(table.numeric):
        table = table.fixing(dropped)
    if estimator is not None and (table.spelled & table.numeric).any():
        table = table.fixing(table.spelled & ~_numbers_to(estimator, table))
    return table


def _numbers_to(estimator: Any, table: Table) -> np.ndarray:
    """Return which columns of numbers as text an estimator takes for numbers.

    To one that does not, another spelling of the same number is another word.
    """
    equal = np.zeros(len(table.numeric), dtype=bool)
    for k in np.flatnonzero(table.spelled & table.numeric):
        with suppress(TypeError, ValueError):  # an unknown word
            other = _answer(estimator, table.respelled(int(k)))
            equal[k] = np.array_equal(other, _answer(estimator, table.given))
    return equal


def _answer(estimator: Any, X: Any) -> np.ndarray:
    """Return the most detailed output that an estimator has for X."""
    for method in ("predict_proba", "decision_function", "predict", "transform"):
        if hasattr(estimator, method):
            output = getattr(estimator, method)(X)
            return np.asarray(output.toarray() if hasattr(output, "toarray") else output)
    raise TypeError(f"{type(estimator).__name__} has neither predict nor transform.")
