"""Data sets by name: one fetcher, and a name for each set."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from skrobust.datasets._catalogue import SOURCES
from skrobust.datasets._checks import SUBSETS
from skrobust.datasets._content import Content, make_bunch, read_npz, rows_of
from skrobust.datasets._download import DataHome
from skrobust.utils._validation import check_choice

__all__ = [
    "fetch_dna",
    "fetch_fashion_mnist",
    "fetch_mnist",
    "fetch_optdigits",
    "fetch_pendigits",
    "fetch_satimage",
    "fetch_spambase",
    "fetch_splice",
    "fetch_table",
    "fetch_usps",
]


class FetchOptions(TypedDict, total=False):
    """What :func:`fetch_table` takes besides the name."""

    subset: str
    data_home: Any
    download_if_missing: bool
    return_X_y: bool
    as_frame: bool
    n_retries: int
    delay: float


def fetch_table(
    name: str,
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load a data set by its name, and download it where it is missing.

    Parameters
    ----------
    name : str
        What follows ``fetch_`` in the names of the other fetchers, such as "pendigits"; or that of
        a file ``NAME.npz`` in the folder that the environment variable ``SKROBUST_DATA`` names.
    subset : {"train", "test", "all"}, default="all"
        The official parts; "all" has the training part first.
    data_home : str or path-like, default=None
        The files lie in its subfolder ``skrobust/NAME``. None looks for ``NAME.npz`` in the folder
        ``SKROBUST_DATA``, if that is set, and then in scikit-learn's ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading.
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` of shape (n_samples, n_features), uint8 or float64; ``target`` int64 of shape
        (n_samples,), positions in ``target_names``; ``is_train`` bool of shape (n_samples,), left
        out where there is no official split; ``images`` of shape (n_samples, H, W) where rows are
        images; ``feature_names``, ``frame`` and ``DESCR`` (source and licence).

    Raises
    ------
    OSError
        If the data are missing and cannot be downloaded, or a download has a wrong checksum.
    TypeError, ValueError
        If a parameter is not as described, a file cannot be read, or a part is asked for where
        there is no official split.

    Examples
    --------
    >>> from skrobust.datasets import fetch_table
    >>> fetch_table("pendigits", subset="train").data.shape  # doctest: +SKIP
    (7494, 16)
    """
    check_choice(subset, SUBSETS, name="subset")
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    path = _own_file(name) if data_home is None else None
    if path is not None:
        content, descr = read_npz(path), f"{name}, from {path}"
    elif name in SOURCES:
        content, descr = SOURCES[name].read(name, subset, home), SOURCES[name].descr
    else:
        raise ValueError(
            f"name must be one of {sorted(SOURCES)}, or that of a file NAME.npz in the folder "
            f"SKROBUST_DATA, {os.environ.get('SKROBUST_DATA')!r}; got {name!r}."
        )
    content = _part(content, name, subset)
    return make_bunch(content, descr, return_X_y=return_X_y, as_frame=as_frame)


def _own_file(name: str) -> Path | None:
    """Return ``NAME.npz`` in the folder of SKROBUST_DATA, or None where it is not there."""
    folder = os.environ.get("SKROBUST_DATA")
    path = Path(folder or ".") / f"{name}.npz"
    return path if folder and path.exists() else None


def _part(content: Content, name: str, subset: str) -> Content:
    """Return the rows of a subset."""
    if subset == "all":
        return content
    if content.is_train is None:
        raise ValueError(
            f"subset must be 'all', because the rows of {name} do not have the official split; "
            f"got {subset!r}."
        )
    rows = rows_of(subset, content.is_train)
    return replace(content, X=content.X[rows], y=content.y[rows], is_train=content.is_train[rows])


def fetch_mnist(**options: Unpack[FetchOptions]) -> Any:
    """Load MNIST: 10 digits, 60000 training and 10000 test images of 28 x 28 pixels.

    12 MB; ``data`` is uint8, 0 to 255.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_mnist
    >>> fetch_mnist(subset="test").images.shape  # doctest: +SKIP
    (10000, 28, 28)
    """
    return fetch_table("mnist", **options)


def fetch_fashion_mnist(**options: Unpack[FetchOptions]) -> Any:
    """Load Fashion-MNIST: 10 kinds of clothes, 60000 training and 10000 test images.

    31 MB; ``data`` is uint8, 0 to 255. The files of Debian's package ``dataset-fashion-mnist`` are
    used where it is installed.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_fashion_mnist
    >>> X, y = fetch_fashion_mnist(subset="train", return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (60000, 784)
    """
    return fetch_table("fashion_mnist", **options)


def fetch_usps(**options: Unpack[FetchOptions]) -> Any:
    """Load USPS: 10 digits, 7291 training and 2007 test images of 16 x 16 pixels.

    8 MB. The values are kept as distributed, -1 to 1 in steps of 0.001: bytes would lose digits.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_usps
    >>> fetch_usps(subset="test").images.shape  # doctest: +SKIP
    (2007, 16, 16)
    """
    return fetch_table("usps", **options)


def fetch_pendigits(**options: Unpack[FetchOptions]) -> Any:
    """Load Pendigits: 10992 pen traces of 10 digits, 16 coordinates from 0 to 100.

    OpenML gives no split: the first 7494 rows of its file are taken for the training part if
    they, and the 3498 others, have the official numbers of rows of each class.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_pendigits
    >>> fetch_pendigits(subset="train").data.shape  # doctest: +SKIP
    (7494, 16)
    """
    return fetch_table("pendigits", **options)


def fetch_optdigits(**options: Unpack[FetchOptions]) -> Any:
    """Load Optdigits: 5620 images of 10 digits, 8 x 8 cells from 0 to 16.

    OpenML gives no split: the first 3823 rows of its file are taken for the training part if
    they, and the 1797 others, have the official numbers of rows of each class. The test part is
    scikit-learn's ``load_digits``.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_optdigits
    >>> fetch_optdigits(subset="test").images.shape  # doctest: +SKIP
    (1797, 8, 8)
    """
    return fetch_table("optdigits", **options)


def fetch_dna(**options: Unpack[FetchOptions]) -> Any:
    """Load DNA: 3186 splice junctions in 3 classes, 60 nucleotides as 180 indicators.

    OpenML gives no split: the first 2000 rows of its file are taken for the training part if
    they, and the 1186 others, have the official numbers of rows of each class.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_dna
    >>> fetch_dna(subset="train").data.shape  # doctest: +SKIP
    (2000, 180)
    """
    return fetch_table("dna", **options)


def fetch_satimage(**options: Unpack[FetchOptions]) -> Any:
    """Load Satimage: neighbourhoods of 3 x 3 Landsat pixels in 4 bands, 6 kinds of ground.

    The official split (4435 and 2000 rows) is not offered: OpenML's file does not say it, and is
    not known to hold all rows in their order.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_satimage
    >>> fetch_satimage().data.shape[1]  # doctest: +SKIP
    36
    """
    return fetch_table("satimage", **options)


def fetch_splice(*, binary: bool = True, **options: Unpack[FetchOptions]) -> Any:
    """Load Splice: 3175 splice junctions, 60 nucleotides as numbers: A = 1, C = 2, G = 3, T = 4.

    The 15 rows of UCI's file in which a nucleotide is uncertain (N, D, S or R) are left out, as in
    the papers. There is no official split, and some rows are there twice: keep copies on one
    side of yours.

    Parameters
    ----------
    binary : bool, default=True
        Make one class of the two kinds of junctions: "N" (no junction) and "junction". False
        keeps "EI", "IE" and "N".
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_splice
    >>> fetch_splice().target_names  # doctest: +SKIP
    ['N', 'junction']
    """
    return fetch_table("splice" if binary else "splice_3_classes", **options)


def fetch_spambase(**options: Unpack[FetchOptions]) -> Any:
    """Load Spambase: 4601 mails, ham or spam, 57 frequencies and lengths.

    There is no official split, and some rows are there twice: keep copies on one side of yours.

    Parameters
    ----------
    **options
        Those of :func:`fetch_table`.

    Returns
    -------
    Bunch, or tuple (data, target)
        As :func:`fetch_table` returns.

    Examples
    --------
    >>> from skrobust.datasets import fetch_spambase
    >>> fetch_spambase().data.shape  # doctest: +SKIP
    (4601, 57)
    """
    return fetch_table("spambase", **options)
