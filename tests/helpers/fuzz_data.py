"""Random data for the searches of tests/fuzz: values, classes, and containers that hold them."""

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
from sklearn import datasets

__all__ = ["Columns", "draw_columns", "draw_data", "toward"]


@cache
def _shipped(name):
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def _subset(name):
    def draw(rng):
        X, y = _shipped(name)
        n = int(rng.integers(10, 80))
        rows = rng.permutation(len(X))[:n]
        return X[rows].astype(np.float64), y[rows]

    return draw


def _gaussian(rng):
    n, d, c = int(rng.integers(2, 50)), int(rng.integers(1, 8)), int(rng.integers(2, 5))
    return rng.standard_normal((n, d)), rng.integers(0, c, n)


def _duplicates(rng):
    X, y = _gaussian(rng)
    X = np.vstack([X, X[rng.integers(0, len(X), len(X))]])
    return X, np.concatenate([y, rng.permutation(y)])


def _grid(rng):
    n, d = int(rng.integers(4, 50)), int(rng.integers(1, 6))
    return rng.integers(0, 5, (n, d)).astype(float), rng.integers(0, 3, n)


def _constant(rng):
    X, y = _gaussian(rng)
    X[:, rng.random(X.shape[1]) < 0.5] = float(rng.choice([0.0, 1.0, 0.1, 1e6]))
    return X, y


def _outliers(rng):
    X, y = _gaussian(rng)
    far = rng.choice(len(X), size=min(len(X), int(rng.integers(1, 4))), replace=False)
    X[far] += 10.0 ** rng.uniform(3, 8) * rng.standard_normal((len(far), X.shape[1]))
    return X, y


def _off_centre(rng):
    X, y = _gaussian(rng)
    return 10.0 ** rng.uniform(2, 8) + 10.0 ** rng.uniform(-3, 1) * X, y


def _tiny(rng):
    X, y = _gaussian(rng)
    return X * 10.0 ** -rng.uniform(5, 170), y


def _huge(rng):
    X, y = _gaussian(rng)
    return X * 10.0 ** rng.uniform(5, 100 if rng.random() < 0.2 else 19), y


def _mixed_units(rng):
    X, y = _gaussian(rng)
    return X * 10.0 ** rng.uniform(-9, 9, X.shape[1]), y


def _lone(rng):
    X, _ = _gaussian(rng)
    y = np.zeros(len(X), dtype=int)
    y[0] = 1
    return X, y


def _one_class(rng):
    X, _ = _gaussian(rng)
    return X, np.zeros(len(X), dtype=int)


def _near_coincident(rng):
    X, y = _gaussian(rng)
    step = 10.0 ** -rng.uniform(5, 15)
    return np.vstack([X, X * (1 + step)]), np.concatenate([y, y + 1])


def _table(rng):
    """A table: two columns of numbers, one of whole numbers, one yes/no, a group of three."""
    n = int(rng.integers(8, 50))
    group = np.eye(3)[rng.integers(0, 3, n)]
    parts = [rng.standard_normal((n, 2)), rng.integers(0, 9, (n, 1)), rng.integers(0, 2, (n, 1))]
    X = np.hstack([*parts, group]).astype(float)
    return X, (X[:, 0] + 0.3 * X[:, 2] + group[:, 0] + 0.3 * rng.standard_normal(n) > 1.5) * 1


KINDS = {
    "iris": (_subset("iris"), 3),
    "wine": (_subset("wine"), 1),
    "breast cancer": (_subset("breast_cancer"), 1),
    "digits": (_subset("digits"), 2),
    "gaussian": (_gaussian, 5),
    "duplicates": (_duplicates, 2),
    "grid": (_grid, 3),
    "constant": (_constant, 2),
    "outliers": (_outliers, 5),
    "off centre": (_off_centre, 3),
    "tiny": (_tiny, 2),
    "huge": (_huge, 3),
    "mixed units": (_mixed_units, 2),
    "lone": (_lone, 1),
    "one class": (_one_class, 0.5),
    "near coincident": (_near_coincident, 2),
    "table": (_table, 4),
}


def draw_data(rng):
    """Return the kind, the values and the classes (whole numbers, 0 and 1 at least once)."""
    weights = np.array([weight for _, weight in KINDS.values()], dtype=float)
    kind = str(rng.choice(list(KINDS), p=weights / weights.sum()))
    X, y = KINDS[kind][0](rng)
    y = np.asarray(y, dtype=np.int64)
    if kind != "one class" and len(set(y)) < 2:
        y[: max(1, len(y) // 2)] = y.max() + 1
    return kind, X, y


def toward(values, clean, dtype):
    """Round `values` to a floating type, towards `clean` where that is needed."""
    rounded = values.astype(dtype)
    beyond = np.abs(rounded.astype(np.longdouble) - clean) > np.abs(
        values.astype(np.longdouble) - clean
    )
    inward = np.nextafter(rounded, clean.astype(dtype), dtype=dtype)
    return np.where(beyond, inward, rounded).astype(np.float64)


@dataclass(frozen=True)
class Columns:
    """A container, and the type of each column in it.

    Attributes
    ----------
    kind : {"array", "fortran", "read-only", "pandas", "polars"}
    dtypes : tuple of str
        "float64", "float32", "int64", "object", "decimal" or "Float64" of each column.
    names : tuple of str or None
    """

    kind: str
    dtypes: tuple
    names: tuple | None

    def permuted(self, order):
        """Return the same with its columns in another order."""
        names = None if self.names is None else tuple(self.names[k] for k in order)
        return replace(self, dtypes=tuple(self.dtypes[k] for k in order), names=names)

    def cast(self, values, clean=None):
        """Return values as the container holds them, in float64, rounded towards `clean`."""
        single = np.array([dtype == "float32" for dtype in self.dtypes])
        with np.errstate(over="ignore"):
            if clean is None:
                return np.where(single, values.astype(np.float32), values).astype(np.float64)
            return np.where(
                single, toward(values, np.broadcast_to(clean, values.shape), "f4"), values
            )

    def build(self, values):
        """Return a container of values that `cast` has rounded."""
        if self.names is None:
            dtype = "float64"
            if len(set(self.dtypes)) == 1:
                dtype = self.dtypes[0]
            if dtype == "int64" and not _whole(values):
                dtype = "float64"
            made = np.array(values, dtype=dtype, order="F" if self.kind == "fortran" else "C")
            if self.kind == "read-only":
                made.flags.writeable = False
            return made
        columns = {
            name: self._column(values[:, k], self.dtypes[k]) for k, name in enumerate(self.names)
        }
        return pd.DataFrame(columns) if self.kind == "pandas" else pl.DataFrame(columns)

    def _column(self, column, dtype):
        if dtype == "int64" and not _whole(column):
            dtype = "float64"
        if dtype == "decimal":
            return np.array([Decimal(float(value)) for value in column], dtype=object)
        if dtype == "Float64":
            return pd.array(column, dtype="Float64")
        return column.astype(dtype)


def _whole(values):
    return bool((np.rint(values) == values).all() and (np.abs(values) < 2.0**53).all())


def draw_columns(rng, kind, X):
    """Return a container for some values."""
    d = X.shape[1]
    container = str(
        rng.choice(
            ["array", "fortran", "read-only", "pandas", "polars"], p=[0.5, 0.07, 0.08, 0.25, 0.1]
        )
    )
    whole = (np.rint(X) == X).all(axis=0) & (np.abs(X) < 2.0**53).all(axis=0)
    plain = "float32" if rng.random() < 0.35 and np.abs(X).max(initial=0) < 1e30 else "float64"
    dtypes = [plain] * d
    if container in ("pandas", "polars"):
        if rng.random() < 0.3 and np.abs(X).max(initial=0) < 1e30:
            dtypes = [str(rng.choice(["float32", "float64"])) for _ in range(d)]
        odd = rng.random()
        if odd < 0.2 and container == "pandas":
            other = str(rng.choice(["object", "decimal", "Float64"]))
            dtypes = [other if rng.random() < 0.5 else dtype for dtype in dtypes]
        if kind in ("grid", "table", "digits") and rng.random() < 0.5:
            dtypes = ["int64" if is_whole else t for is_whole, t in zip(whole, dtypes, strict=True)]
        names = tuple(f"c{k}" for k in rng.permutation(d))
        return Columns(container, tuple(dtypes), names)
    if whole.all() and rng.random() < 0.3:
        dtypes = ["int64"] * d
    return Columns(container, tuple(dtypes), None)
