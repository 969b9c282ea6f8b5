"""Tables and arrays as numbers, and numbers put back into the container that they came from."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import sparse

__all__ = ["Table", "numeric_values"]


def numeric_values(X: Any) -> np.ndarray:
    """Return X as float64; columns of a frame that are not numbers become NaN.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, ...)
    """
    return Table.of(X).values


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as numbers, and the container that they came from.

    Attributes
    ----------
    given : array or data frame
        As it was handed in.
    values : ndarray of shape (n_samples, n_features), float64
        NaN in columns that are not numbers; images and the like are flattened.
    numeric : ndarray of shape (n_features,) of bool
        Which columns are numbers.
    dtype : type
        float32 where all columns are of that type or shorter, else float64: what the
        perturbed values are rounded to.
    names : list of str or None
        Names of the columns of a data frame.
    binary : ndarray of shape (n_features,) of bool or None
        Which columns of a data frame hold True and False.
    """

    given: Any
    values: np.ndarray
    numeric: np.ndarray
    dtype: type
    names: list[str] | None = None
    binary: np.ndarray | None = None

    @classmethod
    def of(cls, X: Any) -> Self:
        """Read an array or a data frame.

        Raises
        ------
        TypeError
            If X is sparse, or an array that does not hold numbers.
        """
        if sparse.issparse(X):
            raise TypeError("X must be dense; got a sparse matrix: use X.toarray().")
        if hasattr(X, "columns"):
            if len(set(X.columns)) < len(X.columns):
                raise ValueError(f"X must have columns of different names; got {list(X.columns)}.")
            columns = [np.asarray(X[name]) for name in X.columns]
            kinds = np.array(
                [
                    column.dtype.kind in "fiub" and not _is_categorical(X[name].dtype)
                    for name, column in zip(X.columns, columns, strict=True)
                ],
                dtype=bool,
            )
            values = np.full((len(X), len(columns)), np.nan)
            for k in np.flatnonzero(kinds):
                values[:, k] = columns[k]
            floats = [c.dtype for c, kind in zip(columns, kinds, strict=True) if kind]
            names = [str(name) for name in X.columns]
            binary = np.array([column.dtype.kind == "b" for column in columns], dtype=bool)
            return cls(X, values, kinds, _working_type(floats), names, binary)
        array = np.asarray(X)
        if array.dtype.kind not in "fiub":
            try:
                array = array.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"X must hold numbers; got an array of dtype {array.dtype}. Columns of text "
                    "belong in a data frame."
                ) from error
        values = array.reshape(len(array), -1).astype(np.float64) if array.ndim else array
        numeric = np.ones(values.shape[-1] if values.ndim else 0, dtype=bool)
        return cls(array, values, numeric, _working_type([array.dtype]))

    def __len__(self) -> int:
        return len(self.values)

    def rebuild(self, points: np.ndarray, rows: np.ndarray | None = None) -> Any:
        """Return points in the container of the rows that they belong to.

        Parameters
        ----------
        points : ndarray of shape (n_rows, n_features), float64
        rows : ndarray of shape (n_rows,), default=None
            Positions of the rows; None is all of them.

        Returns
        -------
        array or data frame
            A frame keeps its columns that are not numbers, and the type of a column where
            all its new values fit.
        """
        rows = np.arange(len(self)) if rows is None else rows
        if self.names is None:
            shape = (len(points), *self.given.shape[1:])
            return points.reshape(shape).astype(self.dtype)
        columns = {}
        for k, name in enumerate(self.given.columns):
            old = np.asarray(self.given[name])[rows]
            if self.numeric[k]:
                columns[name] = _replaced(old, self.values[rows, k], points[:, k], self.dtype)
            else:
                columns[name] = old
        if not hasattr(self.given, "iloc"):
            return type(self.given)(columns)
        # by position: names may be numbers
        frame = self.given.iloc[rows].copy()
        for k, name in enumerate(self.given.columns):
            if self.numeric[k]:
                frame[name] = columns[name]
        return frame


def _working_type(dtypes: list[Any]) -> type:
    """Return float32 where every column is a float of 32 bits or fewer."""
    short = bool(dtypes) and all(d.kind == "f" and d.itemsize <= 4 for d in dtypes)
    return np.float32 if short else np.float64


def _replaced(old: np.ndarray, before: np.ndarray, after: np.ndarray, dtype: type) -> np.ndarray:
    """Return a column with new values, in its own type where they fit."""
    changed = after != before
    if not changed.any():
        return old  # to the last bit, also where float64 is too short for it
    if old.dtype.kind in "iub":
        new = old.copy()
        with np.errstate(invalid="ignore"):
            new[changed] = after[changed].astype(old.dtype)
        if (new[changed].astype(np.float64) == after[changed]).all():
            return new
    return after.astype(dtype)


def _is_categorical(dtype: Any) -> bool:
    """Whether a column holds categories, of numbers perhaps."""
    name = str(dtype).lower()
    return name.startswith(("category", "categorical", "enum"))
