"""Folders of images, in the layouts of the benchmarks of metric learning."""

from collections.abc import Sequence
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skrobust.datasets._checks import SUBSETS, check_non_negative
from skrobust.datasets._content import rows_of
from skrobust.datasets._layouts import READERS, ImageList, detect_layout
from skrobust.datasets._lazy_images import LazyImages
from skrobust.utils._validation import check_choice

__all__ = ["load_image_folder"]


def load_image_folder(
    path: str | PathLike[str],
    *,
    layout: str = "auto",
    image_size: int | tuple[int, int] | None = None,
    resize: int | str | None = None,
    subset: str = "all",
    test_classes: float | Sequence[str] | None = None,
    return_X_y: bool = False,
) -> Any:
    """Load images of a folder, split into classes to train on and other classes to test on.

    Needs Pillow. Images are decoded when they are asked for.

    Parameters
    ----------
    path : str or path-like
        The folder.
    layout : {"auto", "folders", "cub200", "cars196", "sop"}, default="auto"
        How it says what is where. "folders" has one folder a class. "cub200" is CUB-200-2011
        (``images.txt``, ``image_class_labels.txt``, ``images``), "cars196" Stanford Cars
        (``cars_annos.mat``, or ``devkit`` with ``cars_test_annos_withlabels.mat``), "sop" Stanford
        Online Products (``Ebay_train.txt``, ``Ebay_test.txt``). "auto" looks for these files.
    image_size, resize : int, tuple (h, w), str or None
        See :class:`LazyImages`.
    subset : {"train", "test", "all"}, default="all"
        No class is in both parts. The first 100 classes of CUB-200-2011 and the first 98 of Cars
        are for training, as usual in metric learning; the lists of Stanford Online Products say
        it themselves.
    test_classes : float, sequence of str or None, default=None
        For "folders" alone: the share of the classes, the last in sorted order and rounded to
        whole classes, or the names of the classes to test on. None is 0.5.
    return_X_y : bool, default=False
        Return (data, target) alone.

    Returns
    -------
    Bunch, or tuple (data, target)
        ``data``, a :class:`LazyImages` of shape (n_images, H, W, 3); ``target`` int64 of shape
        (n_images,), positions in ``target_names``, the names of all classes whatever the subset;
        ``filenames``, an array of str of shape (n_images,); ``is_train`` bool of shape (n_images,).

    Raises
    ------
    ValueError
        If a parameter is not as described, or the folder does not hold what its layout asks for.
    ImportError
        If Pillow is not installed, when the first image is read.

    Examples
    --------
    >>> from skrobust.datasets import load_image_folder
    >>> birds = load_image_folder(  # doctest: +SKIP
    ...     "CUB_200_2011", image_size=224, resize=256, subset="test"
    ... )
    >>> birds.data.shape  # doctest: +SKIP
    (5924, 224, 224, 3)
    """
    check_choice(layout, ("auto", *READERS), name="layout")
    check_choice(subset, SUBSETS, name="subset")
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"path must be a folder; got {str(root)!r}.")
    layout = detect_layout(root) if layout == "auto" else layout
    if test_classes is not None and layout != "folders":
        raise ValueError(
            f"test_classes must be None with layout={layout!r}, which has its own split; got "
            f"{test_classes!r}."
        )
    images = READERS[layout](root)
    target, n_classes = images.target, len(images.target_names)
    if not images.filenames:
        raise ValueError(f"path must hold images in the layout {layout!r}; got none in {root}.")
    if target.min() < 0 or target.max() >= n_classes:
        raise ValueError(
            f"{root} must give its images classes from 1 to {n_classes}; got "
            f"{target.min() + 1} to {target.max() + 1}."
        )
    is_train = ~_test_classes(images, test_classes)[target]
    rows = np.flatnonzero(rows_of(subset, is_train))
    if len(rows) == 0:
        raise ValueError(f"subset={subset!r} of {root} holds no images; use subset='all'.")
    filenames = [str(root / images.filenames[row]) for row in rows]
    data = LazyImages(filenames, image_size=image_size, resize=resize)
    if return_X_y:
        return data, target[rows]
    return Bunch(
        data=data,
        target=target[rows],
        target_names=images.target_names,
        filenames=np.array(filenames),
        is_train=is_train[rows],
        DESCR=f"Images of {root}, in the layout {layout!r}.",
    )


def _test_classes(images: ImageList, test_classes: Any) -> np.ndarray:
    """Return a mask of the classes to test on."""
    names = images.target_names
    if images.test_classes is not None:
        return images.test_classes
    wanted: Any = 0.5 if test_classes is None else test_classes
    if isinstance(wanted, Real):
        share = check_non_negative("test_classes", wanted)
        if share > 1:
            raise ValueError(f"test_classes must be from 0 to 1, or names; got {wanted!r}.")
        return np.arange(len(names)) >= len(names) - round(share * len(names))
    if isinstance(wanted, str):
        raise ValueError(f"test_classes must be from 0 to 1, or a list of names; got {wanted!r}.")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f"test_classes names {unknown}, which are not among {names}.")
    return np.isin(names, list(wanted))
