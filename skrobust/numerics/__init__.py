"""Pure stateless functions: batches, class-wise neighbour search, rounding bounds."""

from skrobust.numerics._batches import row_batches
from skrobust.numerics._least_norm import LeastNorm, least_norm
from skrobust.numerics._search import ClassNeighbors, nearest_by_class

__all__ = ["ClassNeighbors", "LeastNorm", "least_norm", "nearest_by_class", "row_batches"]
