"""Tables and arrays as numbers, and numbers put back into the container that they came from.

What is inside addresses features by position, what users hand in addresses them by name. The two
meet here, once: a table has the features of the model, in the model's order, whatever the order
of the frame's columns.
"""

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse

__all__ = ["Table", "feature_names", "names_missed_once", "with_names"]


def feature_names(estimator: Any) -> list[str] | None:
    """Return the names of the columns that an estimator was fitted on, None where it has none."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
    for _, step in getattr(estimator, "steps", None) or []:
        if step is not None and not isinstance(step, str):  # what is passed through has no names
            return feature_names(step)
    return None


def with_names(X: np.ndarray, names: Any) -> Any:
    """Return an array as a data frame with the names of its features; itself without names.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    names : array-like of shape (n_features,) or None

    Returns
    -------
    data frame or ndarray
        Of pandas, or of polars where pandas is not installed.
    """
    if names is None:
        return X
    try:
        import pandas as pd
    except ImportError:
        import polars

        return polars.DataFrame(X, schema=list(names))
    return pd.DataFrame(X, columns=names)


@contextmanager
def names_missed_once() -> Iterator[None]:
    """Let scikit-learn say once that X has no feature names, not at each of many predictions.

    Or that X has some which fit had not. Filters decide first. Only in the main thread: what
    shows warnings belongs to the whole process, and threads would not put it back in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    said = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_once(message: Any, *args: Any, **kwargs: Any) -> None:
            text = str(message)
            if text not in said:
                show(message, *args, **kwargs)
            if text.startswith(("X does not have valid feature names", "X has feature names, but")):
                said.add(text)

        warnings.showwarning = show_once
        yield


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
        Which features are numbers. Text that can be read as numbers is one.
    bits : ndarray of shape (n_features,) of int
        16, 32 or 64: the precision of each feature.
    binary : ndarray of shape (n_features,) of bool
        Which columns of a data frame hold True and False.
    spelled : ndarray of shape (n_features,) of bool
        Which columns hold numbers as text.
    names : list of str or None
        Names of the features.
    places : ndarray of shape (n_features,) of int or None
        Their columns in the frame, -1 for one that is missing; None for an array.
    """

    given: Any
    values: np.ndarray
    numeric: np.ndarray
    bits: np.ndarray
    binary: np.ndarray
    spelled: np.ndarray
    names: list[str] | None = None
    places: np.ndarray | None = None

    @classmethod
    def of(cls, X: Any, names: list[str] | None = None) -> Self:
        """Read an array or a data frame.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, ...)
        names : list of str, default=None
            The features, in the model's order. A frame that has some of them is read in this
            order: its other columns are left out, those that it lacks are not numbers. None,
            and for a frame that has none of them, is the order of the columns.

        Raises
        ------
        TypeError
            If X is sparse, or an array that does not hold numbers.
        ValueError
            If two columns of a frame have the same name.
        """
        if sparse.issparse(X):
            raise TypeError("X must be dense; got a sparse matrix: use X.toarray().")
        if not hasattr(X, "columns"):
            return cls._of_array(X, names)
        own = [str(name) for name in X.columns]
        if len(set(X.columns)) < len(X.columns):
            raise ValueError(f"X must have columns of different names; got {list(X.columns)}.")
        if names is None or not set(names) & set(own):
            names = own
        position = {name: k for k, name in enumerate(own)}
        places = np.array([position.get(name, -1) for name in names], dtype=int)
        read = [_NOT_NUMBERS if at < 0 else _read(_column(X, at)) for at in places]
        values = np.full((len(X), len(places)), np.nan)
        for k, column in enumerate(read):
            if column.values is not None:
                values[:, k] = column.values
        return cls(
            X,
            values,
            np.array([column.values is not None for column in read], dtype=bool),
            np.array([column.bits for column in read], dtype=int),
            np.array([column.binary for column in read], dtype=bool),
            np.array([column.spelled for column in read], dtype=bool),
            list(names),
            places,
        )

    @classmethod
    def _of_array(cls, X: Any, names: list[str] | None) -> Self:
        array = np.asarray(X)
        bits = 8 * array.dtype.itemsize if array.dtype.kind == "f" else 64
        if array.dtype.kind not in "fiub":
            try:
                array = array.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"X must hold numbers; got an array of dtype {array.dtype}. Columns of text "
                    "belong in a data frame."
                ) from error
        values = array.astype(np.float64)
        if array.ndim:  # there may be no rows
            values = values.reshape(len(array), math.prod(array.shape[1:]))
        n_features = values.shape[-1] if values.ndim else 0
        none = np.zeros(n_features, dtype=bool)
        if names is not None and len(names) != n_features:
            names = None
        return cls(array, values, ~none, np.full(n_features, bits), none, none, names)

    def __len__(self) -> int:
        return len(self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        # the numbers are read again: half as much to send
        return _again, (type(self), self.given, self.names, self.numeric)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row for the model; a frame may have more columns than the model features."""
        frame = hasattr(self.given, "columns")
        return self.values.shape[1:] if frame else np.shape(self.given)[1:]

    @property
    def single(self) -> np.ndarray:
        """Mask of the features whose perturbed values are rounded to float32."""
        return self.bits < 64

    @property
    def fixed_columns(self) -> list[str]:
        """Names (or positions) of the columns that cannot move: text, categories, dates.

        Of a frame, also those that the model does not have, where they are none of its features.
        """
        names = self.names or [str(k) for k in range(len(self.numeric))]
        here = np.ones(len(names), dtype=bool) if self.places is None else self.places >= 0
        return [names[k] for k in np.flatnonzero(~self.numeric & here)] + self.unused_columns

    @property
    def fixed_features(self) -> list[str]:
        """Names of the features that are not numbers, here or not."""
        return [] if self.names is None else np.array(self.names)[~self.numeric].tolist()

    @property
    def unused_columns(self) -> list[str]:
        """Names of the columns of a frame that are none of the model's features."""
        if self.places is None:
            return []
        return [str(name) for k, name in enumerate(self.given.columns) if k not in self.places]

    @property
    def layout(self) -> dict[str, Any]:
        """The features as ``ThreatModel.resolve`` takes them."""
        return {
            "n_features": len(self.numeric),
            "feature_names": self.names,
            "unused_names": self.unused_columns,
            "fixed_names": self.fixed_features,
        }

    @cached_property
    def clean(self) -> np.ndarray:
        """`values`, 0 where they are not finite or not numbers."""
        return np.where(np.isfinite(self.values) & self.numeric, self.values, 0.0)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation of each feature over its finite values; 0 of what are no numbers."""
        known = np.isfinite(self.values) & self.numeric
        count = np.maximum(known.sum(axis=0), 1)
        values = self.clean.astype(np.float64)
        centred = np.where(known, values - values.sum(axis=0) / count, 0.0)
        return np.sqrt((centred**2).sum(axis=0) / count)

    @cached_property
    def finite(self) -> np.ndarray:
        """Mask of the features that are finite numbers in every row."""
        return np.asarray(np.isfinite(self.values).all(axis=0) & self.numeric)

    def fixing(self, columns: np.ndarray) -> Self:
        """Return a table in which some features do not count as numbers.

        Parameters
        ----------
        columns : ndarray of shape (n_features,) of bool
        """
        return replace(self, numeric=self.numeric & ~columns) if columns.any() else self

    def reread(self, X: Any) -> Self:
        """Read other rows of the same layout, as :meth:`rebuild` makes them.

        Parameters
        ----------
        X : array or data frame
        """
        return type(self).of(X, self.names).fixing(~self.numeric)

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
            A frame keeps the order of its columns, those that are not numbers, and the type of
            a column where all its new values fit. What is not finite stays as it is.
        """
        rows = np.arange(len(self)) if rows is None else rows
        if not self.finite.all():
            kept = np.isfinite(self.values[rows]) & self.numeric
            points = np.where(kept, points, self.values[rows])
        if self.places is None:
            shape = (len(points), *self.given.shape[1:])
            return points.reshape(shape).astype(np.float32 if self.single.all() else np.float64)
        if self._order is not None:
            block = points[:, self._order].astype(self._columns[0].dtype)
            return self._frame(block, rows)
        feature = {int(at): k for k, at in enumerate(self.places)}
        columns = []
        for at in range(len(self.given.columns)):
            k = feature.get(at)
            if k is None or not self.numeric[k]:
                columns.append(self._taken(at, rows))
            else:
                columns.append(self._replaced(at, rows, self.values[rows, k], points[:, k]))
        return self._frame(columns, rows)

    def respelled(self, k: int) -> Any:
        """Return what was given with the same numbers, written otherwise, in a column of text."""
        at = self.places[k]  # type: ignore[index]
        rows = np.arange(len(self))
        columns = [self._taken(c, rows) for c in range(len(self.given.columns))]
        cells = list(columns[at])
        for t in np.flatnonzero(np.isfinite(self.values[:, k])):
            cells[t] = f"{self.values[t, k]:.17e}" if isinstance(cells[t], str) else cells[t]
        columns[at] = np.array(cells, dtype=object)
        return self._frame(columns, rows)

    @cached_property
    def _columns(self) -> list[Any]:
        """The columns of a frame; as NumPy arrays where their values are."""
        return [_storage(_column(self.given, at)) for at in range(len(self.given.columns))]

    @cached_property
    def _order(self) -> np.ndarray | None:
        """The features in the order of the columns, where a single array holds the frame."""
        places = np.empty(0) if self.places is None else self.places
        kinds = {c.dtype if isinstance(c, np.ndarray) else None for c in self._columns}
        floats = len(kinds) == 1 and kinds <= {np.dtype(np.float64), np.dtype(np.float32)}
        whole = len(places) == len(self._columns) and bool((places >= 0).all())
        return np.argsort(places) if floats and whole and self.numeric.all() else None

    def _frame(self, columns: Any, rows: np.ndarray) -> Any:
        """Return columns, or an array of them, in the kind of frame that was given."""
        kind, names = type(self.given), self.given.columns
        if not hasattr(self.given, "iloc"):
            if isinstance(columns, np.ndarray):
                return kind(columns, schema=list(names), orient="row")
            return kind(dict(zip(names, columns, strict=True)))
        index = self.given.index.take(rows)
        if isinstance(columns, np.ndarray):
            return kind(columns, index=index, columns=names)
        # by position: names may be numbers
        frame = kind(dict(enumerate(columns)), index=index)
        frame.columns = names
        return frame

    def _taken(self, at: int, rows: np.ndarray) -> Any:
        column = self._columns[at]
        return column[rows] if hasattr(column, "to_list") else column.take(rows)

    def _replaced(self, at: int, rows: np.ndarray, before: np.ndarray, after: np.ndarray) -> Any:
        """Return a column with new values, in its own type where they fit."""
        changed = (after != before) & np.isfinite(before)
        old = self._taken(at, rows)
        if not changed.any():
            return old  # to the last bit, also where float64 is too short for it
        if not isinstance(old, np.ndarray) or old.dtype.kind not in "fiub":
            return _boxed(old, changed, after)
        if old.dtype.kind == "f":
            return after.astype(np.float32 if old.dtype.itemsize < 8 else np.float64)
        new = old.copy()
        with np.errstate(invalid="ignore"):
            new[changed] = after[changed].astype(old.dtype)
        return new if (new[changed].astype(np.float64) == after[changed]).all() else after


def _again(kind: type[Table], X: Any, names: list[str] | None, numeric: np.ndarray) -> Table:
    return kind.of(X, names).fixing(~numeric)


class _Read(NamedTuple):
    """A column as numbers, None where it holds none."""

    values: np.ndarray | None
    bits: int = 64
    binary: bool = False
    spelled: bool = False


_NOT_NUMBERS = _Read(None)


def _column(X: Any, at: int) -> Any:
    return X.iloc[:, at] if hasattr(X, "iloc") else X.to_series(at)


def _storage(column: Any) -> Any:
    """Return what holds the cells of a column."""
    if not hasattr(column, "iloc"):  # polars
        plain = str(column.dtype).startswith(("Float", "Int", "UInt", "Boolean"))
        return column.to_numpy() if plain and column.null_count() == 0 else column
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def _read(column: Any) -> _Read:
    """Read a column of a data frame."""
    if _is_categorical(column.dtype):
        return _NOT_NUMBERS
    array = np.asarray(column)
    if array.dtype.kind in "fiub":
        return _Read(array, _bits(column.dtype, array.dtype), array.dtype.kind == "b")
    if array.dtype.kind not in "OUT":
        return _NOT_NUMBERS  # dates and the like
    values = np.full(len(array), np.nan)
    kinds = set()
    for t, cell in enumerate(array.tolist()):
        if cell is None or type(cell).__name__ == "NAType":
            continue
        if not isinstance(cell, str | Real | Decimal):
            return _NOT_NUMBERS
        try:
            values[t] = float(cell)
        except (ValueError, OverflowError):
            return _NOT_NUMBERS
        kinds.add(type(cell))
    if np.isnan(values).all():
        return _NOT_NUMBERS
    return _Read(values, _bits(column.dtype, array.dtype), kinds == {bool}, str in kinds)


def _bits(dtype: Any, stored: np.dtype) -> int:
    """Return the precision of a column from its dtype, and from that of its values in NumPy."""
    name = str(dtype).lower()
    for bits, known in ((16, ("float16", "halffloat")), (32, ("float32", "float["))):
        if name.startswith(known):
            return bits
    return 8 * stored.itemsize if stored.kind == "f" else 64


def _boxed(old: Any, changed: np.ndarray, after: np.ndarray) -> Any:
    """Return a column of objects, text or nullable numbers with new values; else as float64."""
    if hasattr(old, "to_list"):  # a series of polars
        cells = old.to_list()
        if not any(isinstance(cell, str) for cell in cells):
            return after
        for t in np.flatnonzero(changed):
            cells[t] = _like(cells[t], after[t])
        return type(old)(old.name, cells, dtype=old.dtype)
    new = old.copy()
    cells = [_like(cell, value) for cell, value in zip(old[changed], after[changed], strict=True)]
    try:
        new[changed] = cells
        fits = [float(cell) for cell in new[changed]] == after[changed].tolist()
    except (TypeError, ValueError, ArithmeticError):
        fits = False
    return new if fits else after


def _like(cell: Any, value: float) -> Any:
    """Return a number as text or as a Decimal where the cell was one."""
    if isinstance(cell, str):
        return repr(float(value))
    return Decimal(float(value)) if isinstance(cell, Decimal) else float(value)


def _is_categorical(dtype: Any) -> bool:
    """Whether a column holds categories, of numbers perhaps."""
    name = str(dtype).lower()
    return name.startswith(("category", "categorical", "enum"))
