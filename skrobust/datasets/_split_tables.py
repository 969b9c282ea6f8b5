"""Pendigits, Optdigits and DNA: tables with an official training and test part, from OpenML."""

from collections.abc import Sequence
from typing import Any

from skrobust.datasets._bunch import rows_of
from skrobust.datasets._checks import SUBSETS, check_choice
from skrobust.datasets._home import DataHome
from skrobust.datasets._openml import (
    UCI,
    OpenMLTable,
    TableContent,
    in_official_order,
    read_table,
    table_bunch,
)

__all__ = ["fetch_dna", "fetch_optdigits", "fetch_pendigits"]

_PENDIGITS = OpenMLTable(
    "pendigits",
    32,
    16,
    "Pendigits: 10992 pen traces of digits, 8 points (x, y) each, 0 to 100.\n\n"
    + UCI.format("Pen-Based Recognition of Handwritten Digits", 32),
)
_OPTDIGITS = OpenMLTable(
    "optdigits",
    28,
    64,
    "Optdigits: 5620 handwritten digits of 8 x 8 cells, 0 to 16 pixels of ink in each.\n\n"
    + UCI.format("Optical Recognition of Handwritten Digits", 28),
)
_DNA = OpenMLTable(
    "dna",
    40670,
    180,
    "DNA: 3186 splice junctions, 60 nucleotides of three indicators each.\n\n"
    + UCI.format("Molecular Biology (Splice-junction Gene Sequences), Statlog's version", 40670),
    labels={"1": "ei", "2": "ie", "3": "n"},
)

# rows of each class in the official training part and in the test part
_PENDIGITS_PARTS = (
    (780, 779, 780, 719, 780, 720, 720, 778, 719, 719),
    (363, 364, 364, 336, 364, 335, 336, 364, 336, 336),
)
_OPTDIGITS_PARTS = (
    (376, 389, 380, 389, 387, 376, 377, 387, 380, 382),
    (178, 182, 177, 183, 181, 182, 181, 179, 174, 180),
)
_DNA_PARTS = ((464, 485, 1051), (303, 280, 603))


def fetch_pendigits(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Pendigits: 10992 pen traces of 10 digits, 16 coordinates from 0 to 100.

    OpenML gives no split: the first 7494 rows of its file are taken for the training part if
    they, and the 3498 others, have the official numbers of rows of each class.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="all"
    data_home : str or path-like, default=None
        The file lies in its subfolder ``skrobust/pendigits``; None is scikit-learn's
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
        ``data`` float64 of shape (n_samples, 16), ``target`` int64 of shape (n_samples,),
        ``is_train`` bool of shape (n_samples,), left out where the rows are in another order,
        ``target_names``, ``feature_names``, ``frame`` and ``DESCR`` (source and licence).

    Raises
    ------
    OSError
        If the data are missing and cannot be downloaded.
    ValueError
        If a parameter is not as described, the file cannot be read, or a part is asked for and
        the rows are in another order.

    Examples
    --------
    >>> from skrobust.datasets import fetch_pendigits
    >>> fetch_pendigits(subset="train").data.shape  # doctest: +SKIP
    (7494, 16)
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return _with_parts(_PENDIGITS, _PENDIGITS_PARTS, home, subset, return_X_y, as_frame)


def fetch_optdigits(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Optdigits: 5620 images of 10 digits, 8 x 8 cells from 0 to 16.

    OpenML gives no split: the first 3823 rows of its file are taken for the training part if
    they, and the 1797 others, have the official numbers of rows of each class. The test part is
    scikit-learn's ``load_digits``.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="all"
    data_home : str or path-like, default=None
        The file lies in its subfolder ``skrobust/optdigits``; None is scikit-learn's
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
        ``data`` uint8 of shape (n_samples, 64), ``images`` of shape (n_samples, 8, 8); the rest
        as :func:`fetch_pendigits` returns.

    Raises
    ------
    OSError, ValueError
        As :func:`fetch_pendigits` raises.

    Examples
    --------
    >>> from skrobust.datasets import fetch_optdigits
    >>> fetch_optdigits(subset="test").images.shape  # doctest: +SKIP
    (1797, 8, 8)
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return _with_parts(
        _OPTDIGITS, _OPTDIGITS_PARTS, home, subset, return_X_y, as_frame, image_shape=(8, 8)
    )


def fetch_dna(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load DNA: 3186 splice junctions in 3 classes, 60 nucleotides as 180 indicators.

    OpenML gives no split: the first 2000 rows of its file are taken for the training part if
    they, and the 1186 others, have the official numbers of rows of each class.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="all"
    data_home : str or path-like, default=None
        The file lies in its subfolder ``skrobust/dna``; None is scikit-learn's
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
        ``data`` float64 of shape (n_samples, 180), 0 or 1; the rest as :func:`fetch_pendigits`
        returns.

    Raises
    ------
    OSError, ValueError
        As :func:`fetch_pendigits` raises.

    Examples
    --------
    >>> from skrobust.datasets import fetch_dna
    >>> fetch_dna(subset="train").data.shape  # doctest: +SKIP
    (2000, 180)
    """
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    return _with_parts(_DNA, _DNA_PARTS, home, subset, return_X_y, as_frame)


def _with_parts(
    table: OpenMLTable,
    counts: Sequence[Sequence[int]],
    home: DataHome,
    subset: str,
    return_X_y: bool,
    as_frame: bool,
    image_shape: tuple[int, int] | None = None,
) -> Any:
    check_choice("subset", subset, SUBSETS)
    content = read_table(table, home)
    is_train = in_official_order(content, counts)
    if is_train is not None:
        rows = rows_of(subset, is_train)
        is_train = is_train[rows]
        content = TableContent(
            content.X[rows], content.y[rows], content.classes, content.feature_names
        )
    elif subset != "all":
        raise ValueError(
            f"subset must be 'all', because the rows of {table.name} in "
            f"{home.folder(table.name)} are not in the official order; got {subset!r}."
        )
    return table_bunch(table, content, return_X_y, as_frame, is_train, image_shape)
