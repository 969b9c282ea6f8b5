"""Images that stay files until they are asked for."""

from collections.abc import Sequence
from importlib import import_module
from os import PathLike, fspath
from typing import Any

import numpy as np

from skrobust.datasets._checks import check_image_size
from skrobust.utils._validation import check_choice, check_count

__all__ = ["LazyImages", "pillow"]

_BITS_PER_SAMPLE = 258  # a tag of TIFF


def pillow(module: str = "Image") -> Any:
    """Return a module of Pillow.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """
    try:
        return import_module(f"PIL.{module}")
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install pillow") from error


class LazyImages:
    """Images of one size, decoded from their files when they are indexed.

    Looks like an array of shape (n_images, H, W, 3): an integer gives an image, a slice, an array
    of integers or a mask gives an array of images. Nothing is kept in memory. Objects can be
    pickled; they hold the paths.

    Parameters
    ----------
    filenames : sequence of str or path-like
        The files, in any format that Pillow reads; all become RGB of 8 bits, upright where their
        Exif data say how the camera was held. Grey levels of 16 bits are scaled; transparency is
        dropped.
    image_size : int, tuple (h, w) or None, default=None
        Size in pixels. None is the size of the first image, which all others must have.
    resize : int, "stretch" or None, default=None
        How an image gets that size. None scales it, with its proportions, until it just covers
        `image_size`, and an int until its shorter side has that many pixels; then the center is
        cut out, black where the image does not reach. "stretch" scales both sides apart.

    Attributes
    ----------
    filenames : list of str
    shape : tuple (n_images, H, W, 3)
    dtype : dtype
        uint8.
    ndim : int
        4.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described; when indexed, if a file cannot be read, or
        holds numbers whose range is not known (32 bits, or floats), or `image_size` is None and it
        has another size than the first. The message names the file.
    ImportError
        If Pillow is not installed, when the first file is read.

    Examples
    --------
    >>> from skrobust.datasets import LazyImages
    >>> images = LazyImages(["cat.jpg", "dog.jpg"], image_size=224, resize=256)
    >>> images.shape
    (2, 224, 224, 3)
    >>> batch = images[[1, 0]]  # reads the files  # doctest: +SKIP
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        filenames: Sequence[str | PathLike[str]],
        *,
        image_size: int | tuple[int, int] | None = None,
        resize: int | str | None = None,
    ):
        self.filenames = [fspath(name) for name in filenames]
        if isinstance(resize, str):
            check_choice(resize, ("stretch",), name="resize")
        elif resize is not None:
            check_count(resize, 1, name="resize")
        if image_size is None and resize is not None:
            raise ValueError(f"image_size must be given with resize={resize!r}; got None.")
        if image_size is None and not self.filenames:
            raise ValueError("filenames must hold at least one file if image_size is None.")
        self.image_size = image_size
        self.resize = resize
        if image_size is None:
            self._size = self._decode(self.filenames[0], None).shape[:2]
        else:
            self._size = check_image_size(image_size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array that all images make up."""
        return len(self.filenames), *self._size, 3

    def __len__(self) -> int:
        return len(self.filenames)

    def __repr__(self) -> str:
        return f"LazyImages(shape={self.shape})"

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple) and len(key) > 1 and all(_everything(k) for k in key[1:]):
            key = key[0]  # X[rows, ...], as scikit-learn asks
        if isinstance(key, tuple):
            raise IndexError(f"LazyImages is indexed along its first axis alone; got {key!r}.")
        rows = self._rows(key)
        if rows.ndim == 0:
            return self._decode(self.filenames[int(rows)], self._size)
        images = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for image, row in zip(images, rows, strict=True):
            image[...] = self._decode(self.filenames[row], self._size)
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("LazyImages are decoded into a new array; copy=False cannot be had.")
        images = self[:]
        return images if dtype is None else images.astype(dtype, copy=False)

    def take(self, indices: Any) -> "LazyImages":
        """Return some of the images, without decoding them.

        Parameters
        ----------
        indices : int array-like, slice or boolean mask

        Returns
        -------
        LazyImages
            Of the same size of images.
        """
        rows = np.atleast_1d(self._rows(indices))
        chosen = LazyImages.__new__(LazyImages)
        vars(chosen).update(vars(self), filenames=[self.filenames[row] for row in rows])
        return chosen

    def _rows(self, key: Any) -> np.ndarray:
        if isinstance(key, list | tuple) and not len(key):
            key = np.empty(0, dtype=np.intp)
        if not isinstance(key, slice) and np.asarray(key).dtype.kind not in "biu":
            raise IndexError(
                f"LazyImages is indexed by integers, a slice or a boolean mask; got {key!r}."
            )
        rows = np.arange(len(self))[key if isinstance(key, slice) else np.asarray(key)]
        if rows.ndim > 1:
            raise IndexError(f"indices must be one-dimensional; got {rows.ndim} dimensions.")
        return rows

    def _decode(self, filename: str, size: tuple[int, int] | None) -> np.ndarray:
        Image = pillow()
        try:
            # opened here: Pillow maps what it opens itself into memory, and turns some TIFFs twice
            with open(filename, "rb") as file, Image.open(file) as opened:
                image = _rgb(opened)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{filename} cannot be read as an image: {error}") from error
        if size is not None and self.image_size is not None:
            image = _fit(image, size, self.resize)
        elif size is not None and image.size != size[::-1]:
            raise ValueError(
                f"{filename} is {image.size[1]} x {image.size[0]} pixels; expected "
                f"{size[0]} x {size[1]}. image_size= makes all images of one size."
            )
        return np.asarray(image, dtype=np.uint8)


def _rgb(image: Any) -> Any:
    """Return an image upright, in RGB of 8 bits."""
    largest = _largest_value(image)
    image = pillow("ImageOps").exif_transpose(image)
    if largest > 255:
        # Pillow itself would clip these values, and make them white
        values = np.asarray(image).astype(np.float64) * (255 / largest)
        return pillow().fromarray(np.round(values).clip(0, 255).astype(np.uint8)).convert("RGB")
    # a palette with transparency becomes RGB with a warning, and RGBA without
    image = image.convert("RGBA") if "transparency" in image.info else image
    return image.convert("RGB")


def _largest_value(image: Any) -> int:
    """Return the value that is white; raise a ValueError where the mode does not say it."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        return int(2 ** max(tags.get(_BITS_PER_SAMPLE, (16,))) - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits in a mode of 32
        return 2**16 - 1
    if image.mode in ("I", "F"):
        kind = "integers of 32 bits" if image.mode == "I" else "floats"
        raise ValueError(f"its values are {kind} of unknown range; save them with 8 or 16 bits.")
    return 255


def _everything(key: Any) -> bool:
    return key is Ellipsis or (isinstance(key, slice) and key == slice(None))


def _fit(image: Any, size: tuple[int, int], resize: int | str | None) -> Any:
    """Return an image of that size, scaled and cut as :class:`LazyImages` says."""
    height, width = size
    bilinear = pillow().Resampling.BILINEAR
    if resize == "stretch":
        return image.resize((width, height), bilinear)
    if resize is None:
        scale = max(width / image.width, height / image.height)
    else:
        scale = int(resize) / min(image.size)
    scaled = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image if image.size == scaled else image.resize(scaled, bilinear)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
