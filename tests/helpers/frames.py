"""The same points in other containers, for laws that say that nothing changes."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skrobust.certificates import RandomizedSmoothingClassifier
from skrobust.neighbors import RobustKNeighborsClassifier, RobustPrototypeClassifier

NAMES = list("abcd")


def points(seed, n=20):
    """Two overlapping classes; numbers of two digits, which every dtype holds."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) // 2 % 2
    X = rng.standard_normal((n, 4)) * [1.0, 3.0, 0.5, 2.0] + y[:, None] * [1.0, 2.0, 0.0, 1.0]
    return np.round(X, 2), y


def by_name(last, columns=NAMES):
    """Return a pipeline that takes its columns by name, in an order of its own."""
    steps = [("first", StandardScaler(), columns[2:]), ("second", StandardScaler(), columns[:2])]
    return make_pipeline(ColumnTransformer(steps), last)


MODELS = {
    "knn": KNeighborsClassifier(1),
    "scaler": make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
    "columns": by_name(KNeighborsClassifier(1)),
    "columns, logistic": by_name(LogisticRegression()),
    "logistic": LogisticRegression(),
    "tree": DecisionTreeClassifier(random_state=0),
}
# for runs at length
SLOWER = {
    "forest": RandomForestClassifier(5, random_state=0),
    "smoothed": RandomizedSmoothingClassifier(n_selection=5, n_samples=20, random_state=0),
    "prototypes": RobustPrototypeClassifier(3, max_iter=20, random_state=0),
    "robust": RobustKNeighborsClassifier(3),
}


def _text(column):
    return [repr(float(v)) for v in column]


def _boxed(frame, convert):
    return pd.DataFrame(
        {name: pd.Series([convert(v) for v in frame[name]], dtype=object) for name in frame}
    )


def _polars(frame):
    return polars.DataFrame({name: frame[name].tolist() for name in frame})


# each takes a pandas frame of float64
CONTAINERS = {
    "array": lambda frame: frame.to_numpy(),
    "object array": lambda frame: frame.to_numpy().astype(object),
    "read-only array": lambda frame: _read_only(frame.to_numpy()),
    "pandas": lambda frame: frame,
    "objects": lambda frame: _boxed(frame, float),
    "decimals": lambda frame: _boxed(frame, lambda v: Decimal(repr(float(v)))),
    "nullable": lambda frame: frame.astype("Float64"),
    "text": lambda frame: pd.DataFrame({name: _text(frame[name]) for name in frame}),
    "one of text": lambda frame: frame.assign(b=_text(frame["b"])),
    "one of decimals": lambda frame: frame.assign(c=_boxed(frame[["c"]], Decimal)["c"].to_numpy()),
    "polars": _polars,
    "polars, one of decimals": lambda frame: _polars(frame).with_columns(
        polars.col("c").cast(polars.Decimal(12, 4))
    ),
    "polars, one of text": lambda frame: _polars(frame).with_columns(
        polars.Series("b", _text(frame["b"]))
    ),
}


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def as_numbers(X):
    """Return any of these containers as float64."""
    if isinstance(X, np.ndarray):
        return X.astype(float)
    columns = [np.array([float(v) for v in X[name]]) for name in X.columns]
    return np.column_stack(columns)
