"""The rows of a data set: the file that keeps them, and the object that the loaders return."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from sklearn.utils import Bunch

__all__ = ["Content", "make_bunch", "read_npz", "rows_of", "write_npz"]


@dataclass(frozen=True)
class Content:
    """Rows with their classes.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features) or (n_samples, H, W, ...)
        A table, or images.
    y : ndarray of shape (n_samples,), int64
        Positions in `classes`.
    classes : list of str
    feature_names : list of str or None
        None numbers them.
    is_train : ndarray of shape (n_samples,) of bool or None
        The official training part; None where it is not known.
    """

    X: np.ndarray
    y: np.ndarray
    classes: list[str]
    feature_names: list[str] | None = None
    is_train: np.ndarray | None = None


def rows_of(subset: str, is_train: np.ndarray) -> np.ndarray:
    """Return a mask of the rows that belong to "train", "test" or "all"."""
    return {"train": is_train, "test": ~is_train, "all": np.ones(len(is_train), bool)}[subset]


def read_npz(path: Path) -> Content:
    """Return the arrays ``X``, ``y``, ``classes``, ``feature_names`` and ``is_train`` of a file.

    The last two may be missing. Values that are not bytes become float64.

    Raises
    ------
    ValueError
        If the file cannot be read, or the arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            X = file["X"]
            content = Content(
                X if X.dtype == np.uint8 else X.astype(np.float64),
                file["y"].astype(np.int64),
                file["classes"].tolist(),
                file["feature_names"].tolist() if "feature_names" in file else None,
                file["is_train"].astype(bool) if "is_train" in file else None,
            )
        y, n = content.y, len(content.X)
        if X.ndim < 2 or n == 0 or not (y.shape == (n,) and 0 <= y.min() <= y.max()):
            raise ValueError(f"X has the shape {X.shape}, y {y.shape}")
        if y.max() >= len(content.classes):
            raise ValueError(f"y reaches {y.max()}, with {len(content.classes)} classes")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}. Delete or replace it.") from error
    return content


def write_npz(path: Path, content: Content) -> None:
    """Write what :func:`read_npz` reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{uuid4().hex}.part.npz")
    arrays = {name: value for name, value in vars(content).items() if value is not None}
    try:
        np.savez_compressed(part, **arrays)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def make_bunch(content: Content, descr: str, *, return_X_y: bool, as_frame: bool) -> Any:
    """Return a Bunch, or data and target alone.

    Parameters
    ----------
    content : Content
    descr : str
        Source and licence.
    return_X_y, as_frame : bool
    """
    shape = content.X.shape[1:]
    data, y, frame = content.X.reshape(len(content.X), -1), content.y, None
    if content.feature_names is not None:
        names = content.feature_names
    elif len(shape) > 1:
        names = ["_".join(["pixel", *map(str, index)]) for index in np.ndindex(shape)]
    else:
        names = [f"x{i}" for i in range(shape[0])]
    X, y, frame = _frames(data, y, names) if as_frame else (data, y, None)
    if return_X_y:
        return X, y
    bunch = Bunch(
        data=X,
        target=y,
        frame=frame,
        target_names=content.classes,
        feature_names=names,
        DESCR=descr,
    )
    if content.is_train is not None:
        bunch.is_train = content.is_train
    if len(shape) > 1:
        bunch.images = data.reshape(content.X.shape)
    return bunch


def _frames(data: np.ndarray, target: np.ndarray, feature_names: Sequence[str]) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("as_frame=True needs pandas: pip install pandas") from error
    X = pd.DataFrame(data, columns=list(feature_names))
    y = pd.Series(target, name="target")
    return X, y, pd.concat([X, y], axis=1)
