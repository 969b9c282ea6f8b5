"""Training data: how rows become inputs of a module, checks of rows and labels, statistics."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, validate_data
from torch.utils.data import DataLoader, Dataset

from skrobust.datasets import LazyImages
from skrobust.utils._warnings import warn

__all__ = [
    "InputLayout",
    "Moments",
    "TrainingState",
    "check_image_shape",
    "check_rows",
    "compute_moments",
    "read_training_data",
    "row_slices",
]

_CHANNELS = (1, 3, 4)
_ROWS, _BYTES = 1024, 2**24


@dataclass(frozen=True)
class InputLayout:
    """How one row of X becomes one input of a module.

    Images of shape (H, W) get a channel, (H, W, C) has its channels last and is turned,
    (C, H, W) stays; (d,) is a table. Other shapes stay as they are. Which of two axes has the
    channels is given, or read from the shape (:func:`_read_last`).

    Attributes
    ----------
    row_shape : tuple of int
        Shape of one row of X.
    shape : tuple of int
        Shape of one row before it is turned.
    channels_last : bool
    guessed : bool
        Whether nothing but the sizes of the axes says so.
    """

    row_shape: tuple[int, ...]
    shape: tuple[int, ...]
    channels_last: bool
    guessed: bool = False

    @classmethod
    def of(
        cls, row_shape: tuple[int, ...], image_shape: Any = None, channels_last: bool | None = None
    ) -> Self:
        """Decide by the shape of a row and the parameters `image_shape` and `channels_last`.

        Raises
        ------
        ValueError
            If `image_shape` is not two or three positive integers, or does not hold as many
            values as a row, or nothing says which axis has the channels.
        """
        shape = row_shape
        if image_shape is not None:
            shape = check_image_shape(image_shape)
            if math.prod(shape) != math.prod(row_shape):
                raise ValueError(
                    f"image_shape={image_shape!r} holds {math.prod(shape)} values; a row of X "
                    f"has shape {row_shape} and holds {math.prod(row_shape)}."
                )
        if len(shape) != 3:
            return cls(tuple(row_shape), tuple(shape), False)
        if channels_last is not None:
            return cls(tuple(row_shape), tuple(shape), bool(channels_last))
        usual = shape[0] in _CHANNELS or shape[-1] in _CHANNELS
        return cls(tuple(row_shape), tuple(shape), _read_last(shape), not usual)

    def __str__(self) -> str:
        axes = {2: "height, width", 3: "channels, height, width"}.get(len(self.shape), "features")
        axes = "height, width, channels" if self.channels_last else axes
        return f"rows of shape {self.shape} are read as ({axes})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the module; with three axes it is an image."""
        if len(self.shape) == 2:
            return (1, *self.shape)
        if self.channels_last:
            return (self.shape[2], *self.shape[:2])
        return self.shape

    def channels_first(self, row: np.ndarray) -> np.ndarray:
        """Return a view of one row, of shape `input_shape`."""
        x = row.reshape(self.shape)
        if len(self.shape) == 2:
            return x[None]
        return np.moveaxis(x, -1, 0) if self.channels_last else x

    def to_module(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of any shape, of shape (n, *input_shape)."""
        x = rows.reshape(len(rows), *self.shape)
        if len(self.shape) == 2:
            return x[:, None]
        if not self.channels_last:
            return x
        # with the strides of any other input, so that the same kernels compute it
        return x.movedim(-1, 1).contiguous().reshape(len(x), -1).reshape(len(x), *self.input_shape)


def _read_last(shape: tuple[int, ...]) -> bool:
    """Return whether the last of three axes has the channels.

    Two equal axes are height and width; else 1, 3 or 4 is a number of channels; else there are
    fewer channels than pixels.
    """
    first, middle, last = shape
    if first == middle != last and first > 1:
        return True
    if middle == last != first and last > 1:
        return False
    usual = first in _CHANNELS, last in _CHANNELS
    if any(usual):
        return not usual[0]
    if first == last:
        raise ValueError(
            f"images of shape {shape} may have their channels first or last; give channels_last."
        )
    return last < first


def check_image_shape(image_shape: Any) -> tuple[int, ...]:
    """Return the shape of an image as integers; raise where it is none."""
    try:
        shape = tuple(int(n) for n in image_shape)
        whole = all(int(n) == n for n in image_shape)
    except (TypeError, ValueError):
        shape, whole = (), False
    if not whole or len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(
            "image_shape must be (height, width), (channels, height, width) or (height, width, "
            f"channels); got {image_shape!r}."
        )
    return shape


def check_rows(estimator: Any, X: Any, layout: InputLayout | None = None) -> Any:
    """Check points; return an array or images that are read on demand.

    Parameters
    ----------
    estimator : estimator
        Where `layout` is None it gets `n_features_in_`, and the names of features.
    X : array-like of shape (n_samples, ...)
    layout : InputLayout, default=None
        What the rows have to fit; None for the first points that an estimator sees.

    Raises
    ------
    ValueError, TypeError
        If they are not an array of finite numbers that float32 can hold, or of another shape.
    """
    if isinstance(X, (DataLoader, Dataset, Iterator)):
        raise TypeError(
            f"X must be an array, a data frame or the LazyImages of load_image_folder; got a "
            f"{type(X).__name__}. Batches are made inside, by batch_size and iterator_train__…; "
            "rows larger than memory are a numpy.memmap or LazyImages."
        )
    if isinstance(X, LazyImages):
        if layout is None:
            estimator.n_features_in_ = X.shape[1]
            vars(estimator).pop("feature_names_in_", None)
    else:
        first = layout is None
        if layout and isinstance(X, np.ndarray) and max(X.ndim, 1 + len(layout.row_shape)) > 2:
            _check_row_shape(X, layout)  # of images, whose features scikit-learn counts wrongly
        X = validate_data(
            estimator,
            X,
            reset=first,
            allow_nd=True,
            dtype="numeric",
            ensure_min_samples=2 if first else 1,
        )
        _check_float32(X)
    if layout is not None:
        _check_row_shape(X, layout)
    return X


def _check_row_shape(X: Any, layout: InputLayout) -> None:
    if tuple(X.shape[1:]) != layout.row_shape:
        raise ValueError(
            f"X has rows of shape {tuple(X.shape[1:])}; the estimator was fitted on rows of "
            f"shape {layout.row_shape}."
        )


def _check_float32(X: np.ndarray) -> None:
    """Raise where values are too large for what networks compute in."""
    if X.dtype.kind == "f" and X.dtype.itemsize > 4 and X.size:
        largest = max(X.max(), -X.min())  # without a copy
        if largest > np.finfo(np.float32).max:
            raise ValueError(f"X must hold values that float32 can hold; got {largest:.3g}.")


def read_training_data(
    estimator: Any, X: Any, y: Any, layout: InputLayout | None = None, classes: Any = None
) -> tuple[Any, np.ndarray, InputLayout, np.ndarray]:
    """Check points and labels, and encode the labels.

    Parameters
    ----------
    estimator : AdversarialDeepMetric
        Its `image_shape` and `channels_last` say how rows are read.
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
    layout : InputLayout, default=None
        What further rows have to fit; None for the first.
    classes : array-like of shape (n_classes,), default=None
        All labels; None takes those of y.

    Returns
    -------
    X : ndarray or LazyImages of shape (n_samples, ...)
    codes : ndarray of shape (n_samples,), int64
        Positions in the classes.
    layout : InputLayout
    classes : ndarray of shape (n_classes,)
        Sorted.

    Raises
    ------
    ValueError, TypeError
        If they are not as described.
    """
    X = check_rows(estimator, X, layout)
    if y is None:
        raise ValueError(
            f"requires y to be passed, but the target y is None: {type(estimator).__name__} "
            "learns from labels."
        )
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    check_classification_targets(y)
    known = np.unique(y if classes is None else classes)
    codes = np.searchsorted(known, y).clip(max=len(known) - 1)
    if (known[codes] != y).any():
        new = np.unique(y[known[codes] != y])
        raise ValueError(
            f"y must hold labels of classes, in the first call of partial_fit, or of that "
            f"call; got {new}, and the classes are {known}."
        )
    _check_class_sizes(known, np.bincount(codes, minlength=len(known)))
    if layout is None:
        layout = InputLayout.of(tuple(X.shape[1:]), estimator.image_shape, estimator.channels_last)
        if layout.guessed:
            warn(
                f"{layout}; channels_last={layout.channels_last} says so, "
                f"{not layout.channels_last} that they are not."
            )
    return X, codes.astype(np.int64), layout, known


def _check_class_sizes(classes: np.ndarray, counts: np.ndarray) -> None:
    """Raise where there is nothing to compare with: one class, or a class with one point."""
    present = classes[counts > 0]
    if len(present) < 2:
        raise ValueError(f"y must hold at least two classes; got 1 class: {present.tolist()[0]!r}.")
    lonely = classes[counts == 1]
    if len(lonely):
        raise ValueError(
            "y must hold at least two points of each class, because a point is compared with "
            f"another one of its class; got 1 sample of {', '.join(map(str, lonely[:5]))}"
            f"{', …' if len(lonely) > 5 else ''}."
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """Means, standard deviations and ranges of training points, by feature or channel.

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

    def warn_of_lost_digits(self) -> None:
        """Warn where float32 loses what features say: large numbers that differ by little."""
        size = np.maximum(np.abs(self.lower), np.abs(self.upper))
        lost = (self.spread > 0) & (self.spread < 1e-4 * size)
        if lost.any():
            k = int(np.flatnonzero(lost)[0])
            warn(
                f"feature {k} of X has values up to {size[k]:.3g} with a standard deviation of "
                f"{self.spread[k]:.3g}, which float32 holds with few digits; scale X beforehand, "
                "by StandardScaler for example."
            )


def compute_moments(X: Any, layout: InputLayout, positions: Any = None) -> Moments:
    """Compute the moments of points, some rows at a time.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
    layout : InputLayout
    positions : ndarray of int, default=None
        The rows that count; None for all.
    """
    chosen = np.arange(len(X)) if positions is None else positions
    n, width = len(chosen), int(np.prod(layout.shape))
    # sums of each of the values of a row, shape (width,), as differences from the first row, so
    # that squares do not cancel
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
    # tables: each feature has its own deviation
    if len(layout.shape) == 1:
        std = np.sqrt(np.maximum(square - mean**2, 0))
        # what rounding leaves of a constant
        std[std <= 1e-7 * np.sqrt(square)] = 0.0
        return Moments(_tensor(mean + origin), _tensor(np.where(std > 0, std, 1.0)), std, *ends)
    # images: E x and E x² of a pixel, of shape (channels, height, width), are averaged over pixels
    first = layout.channels_first(mean + origin)
    second = layout.channels_first(square + 2 * mean * origin + origin**2)
    axes = (1, 2) if first.ndim == 3 else tuple(range(first.ndim))
    center = first.mean(axis=axes, keepdims=True)
    variance = second.mean(axis=axes, keepdims=True) - center**2
    std = np.sqrt(np.maximum(variance, 0))
    overall = float(np.sqrt(max(second.mean() - first.mean() ** 2, 0.0)))
    std = np.where(std > 0, std, 1.0)
    return Moments(_tensor(center), _tensor(std), np.full(width, overall), *ends)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


@dataclass(frozen=True, eq=False)
class TrainingState:
    """What `partial_fit` goes on from, beside the net.

    Attributes
    ----------
    seed : int
    codes : ndarray of shape (n_classes,)
        The label of each class in training: classes that are trained on come first.
    n_trained : int
        How many are trained on.
    moments : Moments
        Statistics of the training points.
    """

    seed: int
    codes: np.ndarray
    n_trained: int
    moments: Moments

    @classmethod
    def of(cls, seed: int, trained: np.ndarray, n_classes: int, moments: Moments) -> Self:
        """Give the classes that are trained on the first labels."""
        trained = np.unique(trained)
        order = np.r_[trained, np.setdiff1d(np.arange(n_classes), trained)]
        return cls(seed, np.argsort(order), len(trained), moments)


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
