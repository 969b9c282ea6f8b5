"""The idx format of MNIST: a magic number, the lengths of the axes, then bytes."""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 8


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
    try:
        with gzip.open(path, "rb") as file:
            zeros, kind, ndim = struct.unpack(">HBB", file.read(4))
            if (zeros, kind, ndim) != (0, _UNSIGNED_BYTE, len(shape)):
                raise ValueError(f"no idx file of unsigned bytes with {len(shape)} axes")
            found = struct.unpack(f">{ndim}I", file.read(4 * ndim))
            if found != shape:
                raise ValueError(f"shape {found} instead of {shape}")
            content = file.read(prod(found) + 1)
            if len(content) != prod(found):
                raise ValueError("more or fewer bytes than its header says")
    except (struct.error, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise ValueError(f"{path} cannot be read as idx: {error}.") from error
    return np.frombuffer(content, dtype=np.uint8).reshape(found).copy()
