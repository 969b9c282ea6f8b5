"""Limits of floating point: roundoff, values whose squares are finite, rounding inside a box."""

import numpy as np

__all__ = [
    "DOUBLE",
    "SINGLE",
    "check_size",
    "largest_value",
    "round_features",
    "round_inside",
]

# unit roundoffs of float32 and float64
SINGLE, DOUBLE = 2.0**-24, 2.0**-53
# values whose squares stay finite, in float64 and in float32
_LARGEST, _LARGEST_SINGLE = 1e140, 1e15


def largest_value(single: bool) -> float:
    """Return the size of values beyond which sums of squares may overflow.

    Parameters
    ----------
    single : bool
        Whether some of the arithmetic is in float32.
    """
    return _LARGEST_SINGLE if single else _LARGEST


def check_size(values: np.ndarray, largest: float = _LARGEST) -> None:
    """Raise a ValueError where squares of differences would not be finite.

    Parameters
    ----------
    values : ndarray
    largest : float, default=1e140
    """
    size = float(np.abs(values).max(initial=0))
    if not size < largest:
        raise ValueError(
            f"X must stay below {largest:g} in absolute value, in training too, so that the "
            f"squared distances of the estimator are finite; got {size:g}. Scale the data."
        )


def round_features(points: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Return points with some features rounded to float32.

    Parameters
    ----------
    points : ndarray of shape (n_samples, n_features)
    single : ndarray of shape (n_features,) of bool
    """
    if not single.any():
        return points
    with np.errstate(over="ignore"):
        return np.where(single, points.astype(np.float32), points)


def round_inside(
    points: np.ndarray, lower: np.ndarray, upper: np.ndarray, single: np.ndarray
) -> np.ndarray:
    """Return points inside a box with some features rounded to float32, still inside the box.

    Where the box holds no float32 number, the result is next to it.

    Parameters
    ----------
    points, lower, upper : ndarray of shape (n_samples, n_features)
    single : ndarray of shape (n_features,) of bool
    """
    rounded = round_features(points, single)
    if not single.any():
        return rounded
    down, up = np.float32(-np.inf), np.float32(np.inf)
    with np.errstate(over="ignore"):
        narrow = rounded.astype(np.float32)
        rounded = np.where(single & (rounded > upper), np.nextafter(narrow, down), rounded)
        narrow = rounded.astype(np.float32)
        return np.where(single & (rounded < lower), np.nextafter(narrow, up), rounded)
