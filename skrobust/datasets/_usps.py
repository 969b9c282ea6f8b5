"""USPS, from the files of the LIBSVM collection."""

from typing import Any

import numpy as np
from sklearn.datasets import load_svmlight_file

from skrobust.datasets._bunch import make_bunch, pixel_names, read_parts
from skrobust.datasets._checks import SUBSETS, check_choice
from skrobust.datasets._download import RemoteFile
from skrobust.datasets._home import DataHome

__all__ = ["fetch_usps"]

_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
_PARTS = {
    "train": RemoteFile("usps.bz2", (_URL + "usps.bz2",), "md5:ec16c51db3855ca6c91edd34d0e9b197"),
    "test": RemoteFile(
        "usps.t.bz2", (_URL + "usps.t.bz2",), "md5:8ea070ee2aca1ac39742fdd1ef5ed118"
    ),
}
_DESCR = """USPS: 9298 handwritten digits of 16 x 16 pixels, -1 (paper) to 1 (ink).

Source: J. J. Hull, A database for handwritten text recognition research, IEEE PAMI 16(5), 1994, as
distributed at https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps
Licence: none stated
"""


def fetch_usps(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load USPS: 10 digits, 7291 training and 2007 test images of 16 x 16 pixels.

    The values are kept as distributed, -1 to 1 in steps of 0.001: bytes would lose digits.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="all"
        "all" has the training part first.
    data_home : str or path-like, default=None
        The files lie in its subfolder ``skrobust/usps``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading (8 MB).
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` float64 of shape (n_samples, 256), ``images`` of shape (n_samples, 16, 16); the
        rest as :func:`fetch_mnist` returns.

    Raises
    ------
    OSError
        If a file is missing and cannot be downloaded, or has a wrong checksum.
    ValueError
        If a parameter is not as described.

    Examples
    --------
    >>> from skrobust.datasets import fetch_usps
    >>> fetch_usps(subset="test").images.shape  # doctest: +SKIP
    (2007, 16, 16)
    """
    check_choice("subset", subset, SUBSETS)
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    data, target, is_train = read_parts(subset, lambda part: _read(home, part))
    return make_bunch(
        data,
        target,
        target_names=tuple("0123456789"),
        feature_names=pixel_names((16, 16)),
        descr=_DESCR,
        is_train=is_train,
        image_shape=(16, 16),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _read(home: DataHome, part: str) -> tuple[np.ndarray, np.ndarray]:
    path = home.fetch(_PARTS[part], "usps")
    X, y = load_svmlight_file(str(path), n_features=256, zero_based=False)
    return X.toarray(), y.astype(np.int64) - 1
