"""Images whose training and test parts are files: MNIST's idx format, LIBSVM's lines."""

import gzip
import struct
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from sklearn.datasets import load_svmlight_file

from skrobust.datasets._content import Content
from skrobust.datasets._download import DataHome, RemoteFile

__all__ = ["IdxImages", "LibsvmImages", "read_idx"]

_UNSIGNED_BYTE = 8


@dataclass(frozen=True)
class _ImageFiles(ABC):
    """Images in files.

    Attributes
    ----------
    descr : str
        What they are, their source and their licence.
    files : mapping of str to RemoteFile or tuple of RemoteFile
        Those of "train" and of "test".
    classes : tuple of str
    """

    descr: str
    files: dict[str, tuple[RemoteFile, ...]]
    classes: tuple[str, ...]

    def read(self, name: str, subset: str, home: DataHome) -> Content:
        """Return the rows of a subset, the training part first; only its files are fetched."""
        parts = ("train", "test") if subset == "all" else (subset,)
        read = [self._read_part(part, name, home) for part in parts]
        X, y = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
        is_train = np.repeat([part == "train" for part in parts], [len(y) for _, y in read])
        return Content(X, y, list(self.classes), None, is_train)

    @abstractmethod
    def _read_part(self, part: str, name: str, home: DataHome) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels of "train" or "test"."""


@dataclass(frozen=True)
class IdxImages(_ImageFiles):
    """Images of 28 x 28 bytes in an idx file, their labels in another.

    Attributes
    ----------
    sizes : mapping of str to int
        Images of each part.
    local : tuple of Path
        Folders with copies that are compressed by others, so that our checksums do not apply.
    """

    sizes: dict[str, int]
    local: tuple[Path, ...] = ()

    def _read_part(self, part: str, name: str, home: DataHome) -> tuple[np.ndarray, np.ndarray]:
        images, labels = (self._path(file, name, home) for file in self.files[part])
        n = self.sizes[part]
        return read_idx(images, (n, 28, 28)), read_idx(labels, (n,)).astype(np.int64)

    def _path(self, file: RemoteFile, name: str, home: DataHome) -> Path:
        copies = [folder / file.name for folder in self.local if (folder / file.name).exists()]
        return copies[0] if copies else home.fetch(file, name)


@dataclass(frozen=True)
class LibsvmImages(_ImageFiles):
    """Images in a file of LIBSVM's format, whose labels begin at 1.

    Attributes
    ----------
    shape : tuple (H, W)
    """

    shape: tuple[int, int]

    def _read_part(self, part: str, name: str, home: DataHome) -> tuple[np.ndarray, np.ndarray]:
        (file,) = self.files[part]
        path = home.fetch(file, name)
        X, y = load_svmlight_file(str(path), n_features=prod(self.shape), zero_based=False)
        return X.toarray().reshape(-1, *self.shape), y.astype(np.int64) - 1


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array in a gzip-compressed idx file of unsigned bytes.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        What the file must hold.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    ValueError
        If the file is damaged, or holds something else.
    """
    # a magic number with the type and the number of axes, their lengths, then the bytes
    header = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTE, len(shape), *shape)
    length = len(header) + prod(shape)
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as idx: {error}.") from error
    if not content.startswith(header) or len(content) != length:
        raise ValueError(f"{path} cannot be read as idx: it does not hold bytes of shape {shape}.")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape).copy()
