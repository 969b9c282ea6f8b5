"""Where the well-known image data sets say which file belongs to which class and part."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from skrobust.datasets._checks import inside

__all__ = ["READERS", "ImageList", "detect_layout"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class ImageList:
    """The images of a folder.

    Attributes
    ----------
    filenames : list of str
        Relative to the folder.
    target : ndarray of shape (n_images,), int64
        Positions in `target_names`.
    target_names : list of str
    test_classes : ndarray of shape (n_classes,) of bool or None
        Which classes are the test part; None where the layout does not say.
    """

    filenames: list[str]
    target: np.ndarray
    target_names: list[str]
    test_classes: np.ndarray | None = None


def detect_layout(root: Path) -> str:
    """Return the name of the layout that the files of a folder show."""
    if (root / "images.txt").exists() and (root / "image_class_labels.txt").exists():
        return "cub200"
    if (root / "cars_annos.mat").exists() or (root / "devkit").is_dir():
        return "cars196"
    if (root / "Ebay_train.txt").exists():
        return "sop"
    return "folders"


def _folders(root: Path) -> ImageList:
    """One folder a class, in sorted order."""
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    files: list[str] = []
    target: list[int] = []
    for i, name in enumerate(names):
        images = sorted(
            f"{name}/{p.name}"
            for p in (root / name).iterdir()
            if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")
        )
        if not images:
            raise ValueError(
                f"{root / name} holds no images; expected one folder a class.{_deeper(root)}"
            )
        files += images
        target += [i] * len(images)
    return ImageList(files, np.array(target, dtype=np.int64), names)


def _deeper(root: Path) -> str:
    """Return a hint at the folders inside that have the classes, as train and test often do."""
    inside = [
        folder
        for folder in sorted(p for p in root.iterdir() if p.is_dir())
        if any(path.suffix.lower() in _SUFFIXES for path in folder.glob("*/*"))
    ]
    if not inside:
        return ""
    names = " or ".join(repr(str(folder)) for folder in inside[:3])
    return f" There are such folders one level down: give path={names}."


def _cub200(root: Path) -> ImageList:
    """CUB-200-2011: the first 100 of 200 classes are for training."""
    images = dict(_lines(root / "images.txt"))
    labels = {key: int(label) for key, label in _lines(root / "image_class_labels.txt")}
    if images.keys() != labels.keys():
        raise ValueError(f"{root} lists other images in image_class_labels.txt than in images.txt.")
    files = [f"images/{inside(name, root / 'images.txt')}" for name in images.values()]
    target = np.array([labels[key] for key in images], dtype=np.int64) - 1
    names = [str(i + 1) for i in range(int(target.max(initial=-1)) + 1)]
    if (root / "classes.txt").exists():
        names = [name for _, name in _lines(root / "classes.txt")]
    return ImageList(files, target, names, np.arange(len(names)) >= 100)


def _cars196(root: Path) -> ImageList:
    """Cars: the first 98 of 196 classes are for training; one list of all, or the devkit."""
    if (root / "cars_annos.mat").exists():
        content = _mat(root / "cars_annos.mat")
        annotations, names = content["annotations"], content["class_names"]
        field = "relative_im_path" if "relative_im_path" in annotations.dtype.names else "fname"
        files = [str(name) for name in annotations[field]]
        target = annotations["class"]
    else:
        names = _mat(root / "devkit" / "cars_meta.mat")["class_names"]
        files, target = [], np.empty(0)
        for part in ("train", "test"):
            annotations = _devkit(root, part)
            files += [f"cars_{part}/{name}" for name in annotations["fname"]]
            target = np.concatenate([target, annotations["class"]])
    return ImageList(
        [str(inside(name, root)) for name in files],
        target.astype(np.int64) - 1,
        [str(name) for name in names],
        np.arange(len(names)) >= 98,
    )


def _devkit(root: Path, part: str) -> Any:
    name = "cars_train_annos.mat" if part == "train" else "cars_test_annos_withlabels.mat"
    for folder in (root / "devkit", root):
        if (folder / name).exists():
            return _mat(folder / name)["annotations"]
    raise ValueError(f"{root} must hold {name}, in devkit or beside it.")


def _mat(path: Path) -> dict[str, Any]:
    """Return the variables of a MATLAB file as one-dimensional arrays."""
    try:
        content = loadmat(path, squeeze_me=True)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return {key: np.atleast_1d(value) for key, value in content.items()}


def _sop(root: Path) -> ImageList:
    """Stanford Online Products: two lists of files, with no class in both."""
    files: list[str] = []
    classes: list[int] = []
    parts: list[set[int]] = []
    for name in ("Ebay_train.txt", "Ebay_test.txt"):
        rows = _lines(root / name, columns=4)[1:]  # image_id class_id super_class_id path
        files += [str(inside(row[3], root / name)) for row in rows]
        classes += [int(row[1]) for row in rows]
        parts.append({int(row[1]) for row in rows})
    both = parts[0] & parts[1]
    if both:
        raise ValueError(f"{root} lists class {min(both)} in Ebay_train.txt and in Ebay_test.txt.")
    found, target = np.unique(np.array(classes, dtype=np.int64), return_inverse=True)
    return ImageList(
        files, target.astype(np.int64), [str(c) for c in found], np.isin(found, list(parts[1]))
    )


def _lines(path: Path, columns: int = 2) -> list[list[str]]:
    """Return the rows of a text file, split at spaces; the last column may hold some."""
    if not path.exists():
        raise ValueError(f"{path} is missing.")
    with path.open(encoding="utf-8") as file:
        rows = [line.rstrip("\n").split(" ", columns - 1) for line in file if line.strip()]
    for row in rows:
        if len(row) != columns:
            raise ValueError(f"{path} must have {columns} columns; got the line {' '.join(row)!r}.")
    return rows


READERS: dict[str, Callable[[Path], ImageList]] = {
    "folders": _folders,
    "cub200": _cub200,
    "cars196": _cars196,
    "sop": _sop,
}
