"""Tables of OpenML, kept as plain arrays beside the other downloads."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home

from skrobust.datasets._bunch import make_bunch, pixel_names
from skrobust.datasets._home import DataHome

__all__ = ["UCI", "OpenMLTable", "TableContent", "in_official_order", "read_table", "table_bunch"]

UCI = "Source: the UCI repository, {}; from openml.org, data set {}\nLicence: CC BY 4.0\n"


@dataclass(frozen=True)
class OpenMLTable:
    """A table of OpenML.

    Attributes
    ----------
    name : str
    data_id : int
        Its number at openml.org.
    n_features : int
    descr : str
        What it is, its source and its licence.
    labels : mapping of str to str
        Names of the classes where OpenML has codes.
    codes : mapping of str to int
        Numbers for the values of nominal features; values that are not in it become −1.
    ignored : tuple of str
        Columns that are no features, where OpenML does not say so itself.
    """

    name: str
    data_id: int
    n_features: int
    descr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableContent:
    """Rows in OpenML's order.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float64
    y : ndarray of shape (n_samples,), int64
        Positions in `classes`.
    classes : list of str
        In the order of OpenML's codes.
    feature_names : list of str
    """

    X: np.ndarray
    y: np.ndarray
    classes: list[str]
    feature_names: list[str]


def read_table(table: OpenMLTable, home: DataHome) -> TableContent:
    """Return a table from its file in `home`, which is downloaded and written if missing.

    Raises
    ------
    OSError
        If the file is missing and OpenML cannot be reached.
    ValueError
        If the file cannot be read, or holds something else.
    """
    folder = home.folder(table.name)
    path = folder / f"{table.name}.npz"
    if not path.exists():
        content = _download(table, home, path)
        _check(table, content, f"openml.org's data set {table.data_id}")
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{table.name}.{uuid4().hex}.part.npz"
        try:
            np.savez_compressed(part, **vars(content))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return content
    try:
        with np.load(path, allow_pickle=False) as file:
            X = np.asarray(file["X"], dtype=np.float64)
            X = X.reshape(len(X), -1)
            names = file["feature_names"] if "feature_names" in file else _numbered(X.shape[1])
            content = TableContent(
                X,
                file["y"].astype(np.int64),
                [str(c) for c in file["classes"]],
                list(map(str, names)),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read: {error}. Delete it to download it again."
        ) from error
    _check(table, content, path)
    return content


def in_official_order(content: TableContent, counts: Sequence[Sequence[int]]) -> np.ndarray | None:
    """Return the mask of the training rows, or None where the rows are in another order.

    Parameters
    ----------
    content : TableContent
    counts : pair of sequences of int
        Rows of each class in the official training part and in the test part.
    """
    n_train, k = sum(counts[0]), len(content.classes)
    for rows, count in zip((content.y[:n_train], content.y[n_train:]), counts, strict=True):
        if not np.array_equal(np.bincount(rows, minlength=k), count):
            return None
    return np.arange(len(content.y)) < n_train


def table_bunch(
    table: OpenMLTable,
    content: TableContent,
    return_X_y: bool,
    as_frame: bool,
    is_train: np.ndarray | None = None,
    image_shape: tuple[int, int] | None = None,
) -> Any:
    """Return what the fetchers return; with `image_shape` the data are bytes."""
    return make_bunch(
        content.X if image_shape is None else content.X.astype(np.uint8),
        content.y,
        target_names=content.classes,
        feature_names=content.feature_names if image_shape is None else pixel_names(image_shape),
        descr=table.descr,
        is_train=is_train,
        image_shape=image_shape,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _download(table: OpenMLTable, home: DataHome, path: Path) -> TableContent:
    page = f"https://www.openml.org/d/{table.data_id}"
    by_hand = (
        f"To do it by hand, fetch {page} by the same call on a machine with a network, and copy "
        f"its {path.name} to {path}."
    )
    if not home.download_if_missing:
        raise OSError(f"{path} is missing, and download_if_missing=False. {by_hand}")
    try:
        bunch = fetch_openml(
            data_id=table.data_id,
            data_home=get_data_home(home.data_home),
            as_frame=False,
            parser="liac-arff",  # needs no pandas; nominal values become numbers
            n_retries=int(home.n_retries),
            delay=float(home.delay),
        )
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{table.name} could not be downloaded. Tried:\n  {page}: "
            f"{getattr(error, 'reason', None) or error}\n{by_hand}"
        ) from error
    columns = [i for i, name in enumerate(bunch.feature_names) if name not in table.ignored]
    X = np.array(bunch.data, dtype=np.float64)[:, columns]
    names = [str(bunch.feature_names[i]) for i in columns]
    if table.codes:
        for column, name in enumerate(names):
            values = [table.codes.get(str(v).strip(), -1) for v in bunch.categories[name]]
            X[:, column] = np.array(values, dtype=np.float64)[X[:, column].astype(int)]
    found, y = np.unique([_label(value) for value in bunch.target], return_inverse=True)
    return TableContent(
        X, y.astype(np.int64), [table.labels.get(code, code) for code in found.tolist()], names
    )


def _label(value: Any) -> str:
    """Return a class as text: ``"1"`` for 1.0, ``"1."`` and ``" 1"`` too."""
    text = str(value).strip()
    return text.removesuffix(".0").removesuffix(".")


def _check(table: OpenMLTable, content: TableContent, source: Any) -> None:
    n, d = content.X.shape
    fits = content.y.shape == (n,) and len(content.feature_names) == d == table.n_features
    if not fits or n == 0 or content.y.min() < 0 or content.y.max() >= len(content.classes):
        raise ValueError(
            f"{source} must hold {table.n_features} features and one of its classes a row; got X "
            f"of shape {content.X.shape} and y of shape {content.y.shape}."
        )


def _numbered(n_features: int) -> list[str]:
    return [f"x{i}" for i in range(n_features)]
