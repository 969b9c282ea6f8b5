"""The object that the loaders return."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

__all__ = ["make_bunch", "pixel_names", "read_parts", "rows_of"]


def rows_of(subset: str, is_train: np.ndarray) -> np.ndarray:
    """Return a mask of the rows that belong to "train", "test" or "all"."""
    return {"train": is_train, "test": ~is_train, "all": np.ones(len(is_train), bool)}[subset]


def read_parts(
    subset: str, read: Callable[[str], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, target and `is_train` of a subset, the training part first.

    Parameters
    ----------
    subset : {"train", "test", "all"}
    read : callable
        From "train" or "test" to data and target.
    """
    names = ("train", "test") if subset == "all" else (subset,)
    parts = [read(name) for name in names]
    is_train = np.repeat([name == "train" for name in names], [len(y) for _, y in parts])
    data, target = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return data, target, is_train


def pixel_names(shape: Sequence[int]) -> list[str]:
    """Return ``pixel_ROW_COLUMN`` for each pixel of an image of shape (H, W)."""
    return [f"pixel_{i}_{j}" for i in range(shape[0]) for j in range(shape[1])]


def make_bunch(
    data: np.ndarray,
    target: np.ndarray,
    *,
    target_names: Sequence[str],
    feature_names: Sequence[str],
    descr: str,
    return_X_y: bool,
    as_frame: bool,
    is_train: np.ndarray | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Any:
    """Return a Bunch, or data and target alone.

    Parameters
    ----------
    data : ndarray of shape (n_samples, n_features)
    target : ndarray of shape (n_samples,) of int
        Positions in `target_names`.
    target_names, feature_names : sequence of str
    descr : str
        Source and licence.
    return_X_y, as_frame : bool
    is_train : ndarray of shape (n_samples,) of bool, default=None
    image_shape : tuple (H, W), default=None
        Adds ``images`` of shape (n_samples, H, W), the same memory as `data`.
    """
    X, y, frame = data, target, None
    if as_frame:
        X, y, frame = _frames(data, target, feature_names)
    if return_X_y:
        return X, y
    bunch = Bunch(
        data=X,
        target=y,
        frame=frame,
        target_names=list(target_names),
        feature_names=list(feature_names),
        DESCR=descr,
    )
    if is_train is not None:
        bunch.is_train = is_train
    if image_shape is not None:
        bunch.images = data.reshape(len(data), *image_shape)
    return bunch


def _frames(data: np.ndarray, target: np.ndarray, feature_names: Sequence[str]) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("as_frame=True needs pandas: pip install pandas") from error
    X = pd.DataFrame(data, columns=list(feature_names))
    y = pd.Series(target, name="target")
    return X, y, pd.concat([X, y], axis=1)
