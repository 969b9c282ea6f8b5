"""Batches of rows that fit scikit-learn's `working_memory` setting."""

from collections.abc import Iterator

from sklearn import get_config

__all__ = ["row_batches"]

# Past this size a block of distances gains no speed, it only takes memory.
_LARGEST_BLOCK = 2**27  # bytes


def row_batches(
    start: int, stop: int, row_bytes: int, largest_block: int = _LARGEST_BLOCK
) -> Iterator[slice]:
    """Cut ``range(start, stop)`` into slices whose rows take a bounded number of bytes.

    Parameters
    ----------
    start, stop : int
        The rows to cut.
    row_bytes : int
        What one row needs, temporaries included.
    largest_block : int
        Bytes a batch may take; ``sklearn.config_context(working_memory=...)`` (MiB)
        lowers it further. One row is always allowed.

    Yields
    ------
    slice
    """
    allowed = min(largest_block, int(get_config()["working_memory"] * 2**20))
    size = max(1, allowed // max(1, row_bytes))
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))
