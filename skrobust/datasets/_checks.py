"""Checks of the parameters that the loaders share."""

from numbers import Integral, Real
from pathlib import PurePosixPath
from typing import Any

import numpy as np

__all__ = [
    "SUBSETS",
    "check_image_size",
    "check_non_negative",
    "inside",
]

SUBSETS = ("train", "test", "all")


def check_non_negative(name: str, value: Any) -> float:
    """Return a float; raise ValueError unless it is a finite real number ≥ 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < np.inf:
        raise ValueError(f"{name} must be a finite number >= 0; got {value!r}.")
    return float(value)


def check_image_size(value: Any, name: str = "image_size") -> tuple[int, int]:
    """Return (height, width) in pixels from one or two positive integers.

    Raises
    ------
    ValueError
        If the value is something else.
    """
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(_is_integer(v) and v > 0 for v in pair):
        raise ValueError(f"{name} must be a positive integer or a pair (h, w); got {value!r}.")
    return int(pair[0]), int(pair[1])


def inside(name: str, source: Any) -> PurePosixPath:
    """Return a relative path that an archive or a list gives, refused if it leads elsewhere.

    Raises
    ------
    ValueError
        If the path is absolute or climbs with ``..``.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]:
        raise ValueError(f"{source} names the file {name!r}, which lies outside its folder.")
    return path


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
