"""Pure, stateless functions on tensors."""

from skrobust.numerics._balls import project_ball
from skrobust.numerics._batches import row_batches
from skrobust.numerics._cones import project_norm_cone, project_psd
from skrobust.numerics._least_norm import LeastNorm, least_norm
from skrobust.numerics._search import ClassNeighbors, nearest_by_class

__all__ = [
    "ClassNeighbors",
    "LeastNorm",
    "least_norm",
    "nearest_by_class",
    "project_ball",
    "project_norm_cone",
    "project_psd",
    "row_batches",
]
