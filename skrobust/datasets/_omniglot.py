"""Omniglot, read from its archives without unpacking them."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from skrobust.datasets._checks import inside
from skrobust.datasets._content import Content, make_bunch
from skrobust.datasets._download import DataHome, RemoteFile
from skrobust.datasets._lazy_images import pillow
from skrobust.utils._validation import check_choice, check_count

__all__ = ["fetch_omniglot"]

_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_SPLITS = {
    "background": RemoteFile(
        "images_background.zip",
        (_URL + "images_background.zip",),
        "68d2efa1b9178cc56df9314c21c6e718",
    ),
    "evaluation": RemoteFile(
        "images_evaluation.zip",
        (_URL + "images_evaluation.zip",),
        "6b91aef0f799c5bb55b94e3f2daec811",
    ),
}
_SIDE = 105  # pixels in the archives
_LARGEST = 1 << 20  # bytes of a drawing, which has some hundred
_DESCR = """Omniglot: 1623 characters of 50 alphabets, each drawn by 20 people; 0 is ink, 255 paper.

Source: B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum, https://github.com/brendenlake/omniglot
Licence: MIT
"""


def fetch_omniglot(
    *,
    subset: str = "all",
    image_size: int | None = 28,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load Omniglot: 1623 handwritten characters, 20 drawings each.

    Needs Pillow.

    Parameters
    ----------
    subset : {"background", "evaluation", "all"}, default="all"
        The authors' two sets of alphabets: 964 and 659 characters; "all" has the background
        first.
    image_size : int or None, default=28
        Side of the images in pixels, reduced bilinearly; None keeps the 105 of the files.
    data_home : str or path-like, default=None
        The archives lie in its subfolder ``skrobust/omniglot``; None is scikit-learn's
        ``get_data_home()``.
    download_if_missing : bool, default=True
        False raises an error instead of downloading (16 MB).
    return_X_y, as_frame : bool, default=False
        Return (data, target) alone; pandas objects instead of arrays.
    n_retries, delay : int and float, default=3 and 1.0
        How often a failed download is tried again, and the seconds before.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data`` uint8 of shape (n_samples, image_size²), ``images`` of shape (n_samples,
        image_size, image_size), 0 where there is ink and 255 for paper; ``target`` int64 of shape
        (n_samples,), positions in ``target_names``, which are ``ALPHABET/CHARACTER``;
        ``is_train``, True for the background; ``feature_names``, ``frame`` and ``DESCR``.

    Raises
    ------
    OSError
        If an archive is missing and cannot be downloaded, or has a wrong checksum.
    TypeError, ValueError
        If a parameter is not as described.
    ImportError
        If Pillow is not installed.

    Examples
    --------
    >>> from skrobust.datasets import fetch_omniglot
    >>> fetch_omniglot(subset="evaluation").images.shape  # doctest: +SKIP
    (13180, 28, 28)
    """
    check_choice(subset, (*_SPLITS, "all"), name="subset")
    side = _SIDE if image_size is None else check_count(image_size, 1, name="image_size")
    home = DataHome(data_home, download_if_missing, n_retries, delay)
    pillow()  # before a download
    images: list[np.ndarray] = []
    names: list[str] = []
    is_train: list[bool] = []
    for part in _SPLITS if subset == "all" else (subset,):
        for name, drawing in _drawings(home.fetch(_SPLITS[part], "omniglot")):
            images.append(_decode(drawing, side))
            names.append(name)
            is_train.append(part == "background")
    target_names = list(dict.fromkeys(names))
    position = {name: i for i, name in enumerate(target_names)}
    target = np.array([position[name] for name in names], dtype=np.int64)
    content = Content(np.stack(images), target, target_names, None, np.array(is_train))
    return make_bunch(content, _DESCR, return_X_y=return_X_y, as_frame=as_frame)


def _drawings(path: Path) -> list[tuple[str, bytes]]:
    """Return (alphabet/character, PNG file) of each drawing of an archive, in sorted order."""
    found = []
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            parts = inside(info.filename, path).parts
            if len(parts) != 4 or parts[0] != path.stem or not parts[3].endswith(".png"):
                continue  # folders, and what file managers leave
            if info.file_size > _LARGEST:
                raise ValueError(f"{path} holds {info.filename} of {info.file_size} bytes.")
            found.append((f"{parts[1]}/{parts[2]}", archive.read(info)))
    if not found:
        raise ValueError(f"{path} holds no drawings {path.stem}/ALPHABET/CHARACTER/*.png.")
    return found


def _decode(content: bytes, side: int) -> np.ndarray:
    Image = pillow()
    with Image.open(BytesIO(content)) as opened:
        image = opened.convert("L")
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)
