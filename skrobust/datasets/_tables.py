"""Satimage, Splice and Spambase: tables without a split, from OpenML."""

from typing import Any

import numpy as np

from skrobust.datasets._home import DataHome
from skrobust.datasets._openml import UCI, OpenMLTable, TableContent, read_table, table_bunch

__all__ = ["fetch_satimage", "fetch_spambase", "fetch_splice"]

_SATIMAGE = OpenMLTable(
    "satimage",
    182,
    36,
    "Satimage: neighbourhoods of 3 x 3 pixels in four bands of Landsat, 0 to 255.\n\n"
    + UCI.format("Statlog (Landsat Satellite)", 182),
    labels={
        "1": "red soil",
        "2": "cotton crop",
        "3": "grey soil",
        "4": "damp grey soil",
        "5": "vegetation stubble",
        "7": "very damp grey soil",
    },
)
_SPLICE = OpenMLTable(
    "splice",
    46,
    60,
    "Splice: splice junctions, 60 nucleotides each: A = 1, C = 2, G = 3, T = 4.\n\n"
    + UCI.format("Molecular Biology (Splice-junction Gene Sequences)", 46),
    codes={"A": 1, "C": 2, "G": 3, "T": 4},
    ignored=("Instance_name",),
)
_SPAMBASE = OpenMLTable(
    "spambase",
    44,
    57,
    "Spambase: 4601 mails: percentages of words and characters, lengths of runs of capitals.\n\n"
    + UCI.format("Spambase", 44),
    labels={"0": "ham", "1": "spam"},
)


def fetch_satimage(
    *,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Satimage: neighbourhoods of 3 x 3 Landsat pixels in 4 bands, 6 kinds of ground.

    The official split (4435 and 2000 rows) is not offered: OpenML's file does not say it, and is
    not known to hold all rows in their order.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The file lies in its subfolder ``skrobust/satimage``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading.
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` float64 of shape (n_samples, 36), 0 to 255, and what :func:`fetch_pendigits`
        returns, without ``is_train``.

    Raises
    ------
    OSError, ValueError
        As :func:`fetch_pendigits` raises.

    Examples
    --------
    >>> from skrobust.datasets import fetch_satimage
    >>> fetch_satimage().data.shape[1]  # doctest: +SKIP
    36
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return table_bunch(_SATIMAGE, read_table(_SATIMAGE, home), return_X_y, as_frame)


def fetch_splice(
    *,
    binary: bool = True,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Splice: 3175 splice junctions, 60 nucleotides as numbers: A = 1, C = 2, G = 3, T = 4.

    The 15 rows of UCI's file in which a nucleotide is uncertain (N, D, S or R) are left out, as in
    the papers. There is no official split, and some rows are there twice: keep copies on one
    side of yours.

    Parameters
    ----------
    binary : bool, default=True
        Make one class of the two kinds of junctions: "N" (no junction) and "junction". False
        keeps "EI", "IE" and "N".
    data_home : str or path-like, default=None
        The file lies in its subfolder ``skrobust/splice``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading.
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` float64 of shape (n_samples, 60), and what :func:`fetch_pendigits` returns,
        without ``is_train``.

    Raises
    ------
    OSError, ValueError
        As :func:`fetch_pendigits` raises.

    Examples
    --------
    >>> from skrobust.datasets import fetch_splice
    >>> fetch_splice().target_names  # doctest: +SKIP
    ['N', 'junction']
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    content = read_table(_SPLICE, home)
    certain = (content.X > 0).all(axis=1)
    X, y, classes = content.X[certain], content.y[certain], content.classes
    if binary:
        y = np.asarray([name != "N" for name in classes])[y].astype(np.int64)
        classes = ["N", "junction"]
    content = TableContent(X, y, classes, content.feature_names)
    return table_bunch(_SPLICE, content, return_X_y, as_frame)


def fetch_spambase(
    *,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Spambase: 4601 mails, ham or spam, 57 frequencies and lengths.

    There is no official split, and some rows are there twice: keep copies on one side of yours.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The file lies in its subfolder ``skrobust/spambase``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading.
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` float64 of shape (n_samples, 57), and what :func:`fetch_pendigits` returns,
        without ``is_train``.

    Raises
    ------
    OSError, ValueError
        As :func:`fetch_pendigits` raises.

    Examples
    --------
    >>> from skrobust.datasets import fetch_spambase
    >>> fetch_spambase().data.shape  # doctest: +SKIP
    (4601, 57)
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return table_bunch(_SPAMBASE, read_table(_SPAMBASE, home), return_X_y, as_frame)
