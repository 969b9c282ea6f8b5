"""Nearest neighbours of every point, in its own class and in the others."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from skrobust.numerics._batches import row_batches

__all__ = ["ClassNeighbors", "nearest_by_class"]


class ClassNeighbors(NamedTuple):
    """The nearest points of the same and of the other classes, nearest first.

    Attributes
    ----------
    positives : Tensor of shape (n_samples, n_candidates), int64
        Same-class points, the point itself left out **by index**. Where a class has fewer
        others than `n_candidates`, a row ends with the point's own index.
    n_positives : Tensor of shape (n_samples,), int64
        How many entries of the row are real.
    negatives : Tensor of shape (n_samples, n_candidates), int64
        Points of other classes, padded likewise.
    n_negatives : Tensor of shape (n_samples,), int64
    """

    positives: torch.Tensor
    n_positives: torch.Tensor
    negatives: torch.Tensor
    n_negatives: torch.Tensor


def nearest_by_class(
    Z: torch.Tensor,
    class_slices: Sequence[slice],
    n_candidates: int,
    rows: torch.Tensor | None = None,
) -> ClassNeighbors:
    """Search, by blocks of a matrix product, in memory linear in the number of samples.

    Parameters
    ----------
    Z : Tensor of shape (n_samples, n_components)
        The points, sorted by class. Centred data keep the rounding small.
    class_slices : sequence of slice
        The rows of each class, in order, together all rows.
    n_candidates : int
        Neighbours wanted of either kind.
    rows : Tensor of shape (n_rows,), int64, default=None
        The points whose neighbours are wanted; None is all. Other rows of the result are
        padding.

    Returns
    -------
    ClassNeighbors
    """
    n_samples = len(Z)
    own = torch.arange(n_samples, device=Z.device)
    positives = own[:, None].repeat(1, n_candidates)
    negatives = positives.clone()
    n_positives = torch.zeros_like(own)
    n_negatives = torch.zeros_like(own)
    squared_norms = (Z * Z).sum(1)
    buffer = Z.new_empty(0)

    # sorted rows, so that those of a class are a slice of them, as the classes are of Z
    wanted = own if rows is None else rows.to(Z.device).sort().values
    for rows_of_class in class_slices:
        first, last = rows_of_class.start, rows_of_class.stop
        start, stop = torch.searchsorted(wanted, wanted.new_tensor([first, last])).tolist()
        n_same = min(n_candidates, last - first - 1)
        n_other = min(n_candidates, n_samples - (last - first))
        n_positives[wanted[start:stop]] = n_same
        n_negatives[wanted[start:stop]] = n_other
        for batch in row_batches(start, stop, n_samples * Z.element_size(), 2**25):
            chosen = wanted[batch]
            size = len(chosen)
            if len(buffer) < size:
                buffer = Z.new_empty(size, n_samples)
            # ‖z_j‖² − 2 z·z_j orders the points as the distance does: (size, n_samples)
            order = torch.mm(Z[chosen] * -2, Z.T, out=buffer[:size]).add_(squared_norms)
            order[torch.arange(size, device=Z.device), chosen] = torch.inf
            if n_same > 0:
                nearest = torch.topk(order[:, first:last], n_same, largest=False).indices
                positives[chosen, :n_same] = nearest + first
            if n_other > 0:
                order[:, first:last] = torch.inf
                negatives[chosen, :n_other] = torch.topk(order, n_other, largest=False).indices
    return ClassNeighbors(positives, n_positives, negatives, n_negatives)
