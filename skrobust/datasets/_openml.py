"""Tables of OpenML, kept as plain arrays beside the other downloads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home

from skrobust.datasets._content import Content, read_npz, write_npz
from skrobust.datasets._download import DataHome

__all__ = ["OpenMLTable"]


@dataclass(frozen=True)
class OpenMLTable:
    """A table of OpenML.

    Attributes
    ----------
    descr : str
        What it is, its source and its licence.
    data_id : int
        Its number at openml.org.
    n_features : int
    labels : mapping of str to str
        Names of the classes where OpenML has codes, in the order of the classes; codes with one
        name become one class.
    codes : mapping of str to int
        Numbers for the values of nominal features; rows with other values are left out.
    ignored : tuple of str
        Columns that are no features, where OpenML does not say so itself.
    counts : pair of sequences of int or None
        Rows of each class in the official training part, which comes first, and in the test part.
    image_shape : tuple (H, W) or None
        For rows that are images of bytes.
    """

    descr: str
    data_id: int
    n_features: int
    labels: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    counts: tuple[Sequence[int], Sequence[int]] | None = None
    image_shape: tuple[int, int] | None = None

    def read(self, name: str, subset: str, home: DataHome) -> Content:
        """Return all rows, from the file in `home`, which is downloaded and written if missing.

        Raises
        ------
        OSError
            If the file is missing and OpenML cannot be reached.
        ValueError
            If the file, or OpenML's answer, is not the table that is expected.
        """
        path = home.folder(name) / f"{name}.npz"
        if path.exists():
            content = read_npz(path)
            self._check(content.X, path)
            return content
        content = self._content(self._download(home, path))
        write_npz(path, content)
        return content

    def _download(self, home: DataHome, path: Path) -> Any:
        page = f"https://www.openml.org/d/{self.data_id}"
        by_hand = (
            f"To do it by hand, fetch {page} by the same call on a machine with a network, and "
            f"copy its {path.name} to {path}."
        )
        if not home.download_if_missing:
            raise OSError(f"{path} is missing, and download_if_missing=False. {by_hand}")
        try:
            return fetch_openml(
                data_id=self.data_id,
                data_home=get_data_home(home.data_home),
                as_frame=False,
                parser="liac-arff",  # needs no pandas; nominal values become numbers
                n_retries=int(home.n_retries),
                delay=float(home.delay),
            )
        except (OSError, HTTPException) as error:
            raise OSError(
                f"{path.stem} could not be downloaded. Tried:\n  {page}: "
                f"{getattr(error, 'reason', None) or error}\n{by_hand}"
            ) from error

    def _content(self, bunch: Any) -> Content:
        """Return the rows of OpenML's answer."""
        columns = [i for i, name in enumerate(bunch.feature_names) if name not in self.ignored]
        names = [str(bunch.feature_names[i]) for i in columns]
        X = np.array(bunch.data, dtype=np.float64)[:, columns]
        self._check(X, f"openml.org's data set {self.data_id}")
        target, known = np.asarray(bunch.target), np.full(len(X), True)
        if self.codes:
            for column, name in enumerate(names):
                values = [self.codes.get(str(v).strip(), np.nan) for v in bunch.categories[name]]
                X[:, column] = np.array(values)[X[:, column].astype(int)]
            known &= ~np.isnan(X).any(axis=1)
        found, code = np.unique([_label(value) for value in target[known]], return_inverse=True)
        order = dict.fromkeys([*(key for key in self.labels if key in found), *found.tolist()])
        classes = list(dict.fromkeys(self.labels.get(key, key) for key in order))
        position = [classes.index(self.labels.get(key, key)) for key in found]
        y, X = np.array(position, dtype=np.int64)[code], X[known]
        is_train = self._training_rows(y)
        if self.image_shape is not None:
            return Content(
                X.astype(np.uint8).reshape(-1, *self.image_shape), y, classes, None, is_train
            )
        return Content(X, y, classes, names, is_train)

    def _check(self, X: np.ndarray, source: Any) -> None:
        if len(X) == 0 or X[0].size != self.n_features:
            raise ValueError(
                f"{source} must hold rows of {self.n_features} features; got the shape {X.shape}."
            )

    def _training_rows(self, y: np.ndarray) -> np.ndarray | None:
        """Return the mask of the first rows where both parts have the official numbers."""
        if self.counts is None:
            return None
        n_train = sum(self.counts[0])
        for rows, count in zip((y[:n_train], y[n_train:]), self.counts, strict=True):
            if not np.array_equal(np.bincount(rows, minlength=len(count)), count):
                return None
        return np.arange(len(y)) < n_train


def _label(value: Any) -> str:
    """Return a class as text: ``"1"`` for 1.0, ``"1."`` and ``" 1"`` too."""
    text = str(value).strip()
    return text.removesuffix(".0").removesuffix(".")
