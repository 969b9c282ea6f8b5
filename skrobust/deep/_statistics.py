"""Means and standard deviations of training points, of features or channels."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skrobust.deep._layout import InputLayout

__all__ = ["Moments", "check_float32", "check_precision", "moments", "row_slices"]

_ROWS, _BYTES = 1024, 2**24


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of the values of training points.

    Attributes
    ----------
    mean, std : Tensor
        Broadcast to inputs of the module; 1 in place of a deviation of 0.
    spread : ndarray of shape (n_values,)
        Standard deviation in the order of X: of each feature for tables, of all values
        otherwise.
    lower, upper : ndarray of shape (n_values,)
        Smallest and largest values.
    """

    mean: torch.Tensor
    std: torch.Tensor
    spread: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def isotropic(self) -> "Moments":
        """The same with one deviation for all: the root mean square distance from the mean."""
        total = float(np.square(self.spread).sum())
        if self.mean.numel() != len(self.spread):  # means of channels, deviations of all values
            total -= len(self.spread) * float(self.mean.double().var(unbiased=False))
        size = float(np.sqrt(max(total, 0.0)))
        return replace(self, std=torch.full_like(self.std, size if size > 0 else 1.0))

    def widened(self, X: Any) -> "Moments":
        """Return the same with ends that hold further rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        """
        lower, upper = self.lower.copy(), self.upper.copy()
        for some in row_slices(len(X), len(lower)):
            rows = np.asarray(X[some]).reshape(-1, len(lower))
            np.minimum(lower, rows.min(axis=0), out=lower)
            np.maximum(upper, rows.max(axis=0), out=upper)
        return replace(self, lower=lower, upper=upper)


def row_slices(n: int, width: int) -> Iterator[slice]:
    """Yield slices of rows that take a few megabytes in float64, whatever their width.

    Parameters
    ----------
    n : int
        Rows.
    width : int
        Values of one row.
    """
    size = min(_ROWS, max(1, _BYTES // (8 * width)))
    for start in range(0, n, size):
        yield slice(start, start + size)


def check_float32(X: np.ndarray) -> None:
    """Raise where values are too large for what networks compute in."""
    if X.dtype.kind == "f" and X.dtype.itemsize > 4 and X.size:
        largest = max(X.max(), -X.min())  # without a copy
        if largest > np.finfo(np.float32).max:
            raise ValueError(f"X must hold values that float32 can hold; got {largest:.3g}.")


def check_precision(known: Moments) -> None:
    """Warn where float32 loses what features say: large numbers that differ by little."""
    size = np.maximum(np.abs(known.lower), np.abs(known.upper))
    lost = (known.spread > 0) & (known.spread < 1e-4 * size)
    if lost.any():
        k = int(np.flatnonzero(lost)[0])
        warnings.warn(
            f"feature {k} of X has values up to {size[k]:.3g} with a standard deviation of "
            f"{known.spread[k]:.3g}, which float32 holds with few digits; scale X beforehand, by "
            "StandardScaler for example.",
            UserWarning,
            stacklevel=2,
        )


def moments(X: Any, layout: InputLayout, positions: Any = None) -> Moments:
    """Compute them, some rows at a time.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
    layout : InputLayout
    positions : ndarray of int, default=None
        Of the rows that count; None for all.
    """
    chosen = np.arange(len(X)) if positions is None else positions
    n, width = len(chosen), int(np.prod(layout.shape))
    # about the first row, so that squares do not cancel
    origin = np.asarray(X[chosen[:1]]).reshape(width).astype(np.float64)
    total, squares = np.zeros(width), np.zeros(width)
    lower, upper = np.zeros(width), np.zeros(width)
    for rows in row_slices(n, width):
        some = np.asarray(X[chosen[rows]]).reshape(-1, width) - origin
        total += some.sum(axis=0)
        squares += np.einsum("ij,ij->j", some, some)
        lower, upper = np.minimum(lower, some.min(axis=0)), np.maximum(upper, some.max(axis=0))
    mean, square = total / n, squares / n
    ends = lower + origin, upper + origin
    if len(layout.shape) == 1:
        std = np.sqrt(np.maximum(square - mean**2, 0))
        # what rounding leaves of a constant
        std[std <= 1e-7 * np.sqrt(square)] = 0.0
        return Moments(_tensor(mean + origin), _tensor(np.where(std > 0, std, 1.0)), std, *ends)
    # E x and E x² about 0 may be averaged over pixels
    first = mean + origin
    second = square + 2 * mean * origin + origin**2
    axes = _pixels(layout)
    shape = layout.shape
    channel_mean = first.reshape(shape).mean(axis=axes, keepdims=True)
    channel_var = second.reshape(shape).mean(axis=axes, keepdims=True) - channel_mean**2
    channel_std = np.sqrt(np.maximum(channel_var, 0))
    overall = float(np.sqrt(max(second.mean() - first.mean() ** 2, 0.0)))
    turned = [
        layout.to_module(torch.from_numpy(np.broadcast_to(values, shape).copy()[None]))[0]
        for values in (channel_mean, np.where(channel_std > 0, channel_std, 1.0))
    ]
    small = [values[_corner(values, layout)].float() for values in turned]
    return Moments(small[0], small[1], np.full(width, overall), *ends)


def _pixels(layout: InputLayout) -> tuple[int, ...]:
    """Return the axes of a row that are not channels."""
    axes = range(len(layout.shape))
    if len(layout.shape) != 3:
        return tuple(axes)
    return (0, 1) if layout.channels_last else (1, 2)


def _corner(values: torch.Tensor, layout: InputLayout) -> tuple[slice, ...]:
    """Return the index of one value a channel, axes kept."""
    one = slice(0, 1)
    if layout.is_image:
        return (slice(None), one, one)
    return (one,) * values.ndim


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
