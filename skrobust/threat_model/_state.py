"""Parameters that hold series, as plain values that every file format takes, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plain", "restored"]

_SERIES = "pandas.Series"


def plain(value: Any) -> Any:
    """Return a parameter without objects of a data-frame library.

    Parameters
    ----------
    value : object
        A pandas Series becomes a dict of its values and its index, another series or an index
        an array; within a tuple, a list or a mapping as well.
    """
    if hasattr(value, "reindex") and hasattr(value, "index") and hasattr(value, "to_numpy"):
        return {_SERIES: [value.to_numpy().tolist(), value.index.tolist()]}
    if hasattr(value, "to_numpy"):
        return np.asarray(value.to_numpy().tolist())
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(plain(one) for one in value)
    return value


def restored(value: Any) -> Any:
    """Return the parameter that :func:`plain` was given."""
    if isinstance(value, Mapping):
        if set(value) == {_SERIES}:
            import pandas as pd

            values, index = value[_SERIES]
            return pd.Series(values, index=index)
        return {name: restored(one) for name, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(restored(one) for one in value)
    return value
