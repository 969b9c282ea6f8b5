"""Data that many tests read, read once."""

import copy
import functools

from sklearn import datasets

__all__ = ["load_digits"]

_load = functools.cache(datasets.load_digits)


def load_digits(**params):
    """Return what scikit-learn's function of the name does, in arrays of one's own."""
    return copy.deepcopy(_load(**params))
