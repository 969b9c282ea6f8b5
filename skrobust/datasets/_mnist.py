"""MNIST and Fashion-MNIST, from idx files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skrobust.datasets._bunch import make_bunch, pixel_names, read_parts
from skrobust.datasets._checks import SUBSETS, check_choice
from skrobust.datasets._download import RemoteFile
from skrobust.datasets._home import DataHome
from skrobust.datasets._idx import read_idx

__all__ = ["fetch_fashion_mnist", "fetch_mnist"]


@dataclass(frozen=True)
class _IdxSet:
    """Images in four files; `md5` in the order of `_FILES`, `local` are folders of copies."""

    name: str
    mirrors: tuple[str, ...]
    md5: tuple[str, str, str, str]
    target_names: tuple[str, ...]
    descr: str
    sizes: tuple[int, int] = (60000, 10000)
    local: tuple[Path, ...] = ()


_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

_MNIST = _IdxSet(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    md5=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    target_names=tuple("0123456789"),
    descr="""MNIST: 70000 handwritten digits of 28 x 28 pixels, 0 (paper) to 255 (ink).

Source: Y. LeCun, C. Cortes and C. J. C. Burges, http://yann.lecun.com/exdb/mnist/
Licence: CC BY-SA 3.0
""",
)

_FASHION = _IdxSet(
    name="fashion_mnist",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    target_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    local=(Path("/usr/share/datasets/fashion-mnist"),),
    descr="""Fashion-MNIST: 70000 articles of 28 x 28 pixels, 0 (background) to 255.

Source: H. Xiao, K. Rasul and R. Vollgraf, https://github.com/zalandoresearch/fashion-mnist
Licence: MIT, copyright 2017 Zalando SE
""",
)


def fetch_mnist(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load MNIST: 10 digits, 60000 training and 10000 test images of 28 x 28 pixels.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="all"
        "all" has the training part first.
    data_home : str or path-like, default=None
        The files lie in its subfolder ``skrobust/mnist``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading (12 MB).
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` uint8 of shape (n_samples, 784), ``images`` of shape (n_samples, 28, 28),
        ``target`` int64 of shape (n_samples,), ``is_train`` bool of shape (n_samples,),
        ``target_names``, ``feature_names``, ``frame`` and ``DESCR`` (source and licence).

    Raises
    ------
    OSError
        If a file is missing and cannot be downloaded, or has a wrong checksum.
    ValueError
        If a parameter is not as described.

    Examples
    --------
    >>> from skrobust.datasets import fetch_mnist
    >>> fetch_mnist(subset="test").images.shape  # doctest: +SKIP
    (10000, 28, 28)
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return _fetch(_MNIST, home, subset, return_X_y=return_X_y, as_frame=as_frame)


def fetch_fashion_mnist(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Fashion-MNIST: 10 kinds of clothes, 60000 training and 10000 test images.

    The files of Debian's package ``dataset-fashion-mnist`` are used where it is installed.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="all"
        "all" has the training part first.
    data_home : str or path-like, default=None
        The files lie in its subfolder ``skrobust/fashion_mnist``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading (31 MB).
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_mnist` returns.

    Raises
    ------
    OSError
        If a file is missing and cannot be downloaded, or has a wrong checksum.
    ValueError
        If a parameter is not as described.

    Examples
    --------
    >>> from skrobust.datasets import fetch_fashion_mnist
    >>> X, y = fetch_fashion_mnist(subset="train", return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (60000, 784)
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return _fetch(_FASHION, home, subset, return_X_y=return_X_y, as_frame=as_frame)


def _fetch(
    source: _IdxSet, home: DataHome, subset: str, *, return_X_y: bool, as_frame: bool
) -> Any:
    check_choice("subset", subset, SUBSETS)

    def read(part: str) -> tuple[np.ndarray, np.ndarray]:
        first, n = (0, source.sizes[0]) if part == "train" else (2, source.sizes[1])
        images = _read(source, home, first, (n, 28, 28)).reshape(n, -1)
        return images, _read(source, home, first + 1, (n,)).astype(np.int64)

    data, target, is_train = read_parts(subset, read)
    return make_bunch(
        data,
        target,
        target_names=source.target_names,
        feature_names=pixel_names((28, 28)),
        descr=source.descr,
        is_train=is_train,
        image_shape=(28, 28),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _read(source: _IdxSet, home: DataHome, index: int, shape: tuple[int, ...]) -> np.ndarray:
    name = _FILES[index]
    for folder in source.local:  # compressed by others: no checksum of ours
        if (folder / name).exists():
            return read_idx(folder / name, shape)
    urls = tuple(mirror + name for mirror in source.mirrors)
    return read_idx(
        home.fetch(RemoteFile(name, urls, f"md5:{source.md5[index]}"), source.name), shape
    )
