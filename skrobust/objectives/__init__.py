"""What a fit minimises: pure, differentiable functions of a metric and of data.

To add an objective, derive from :class:`~skrobust.objectives.MetricObjective`, write ``value`` (and
``triplets``, for convex solvers), and give it to ``RobustMahalanobis(objective=...)``.
"""

from skrobust.objectives._base import MetricObjective, Triplets
from skrobust.objectives._bounds import pair_margins, triplet_margin
from skrobust.objectives._certificate import (
    CertificateObjective,
    candidate_bounds,
    smooth_largest,
)
from skrobust.objectives._convex import PENALTIES, TargetRadiusProgram
from skrobust.objectives._losses import LOSSES, margin_loss
from skrobust.objectives._prototypes import PrototypeObjective
from skrobust.objectives._triplet import TripletObjective

__all__ = [
    "LOSSES",
    "PENALTIES",
    "CertificateObjective",
    "MetricObjective",
    "PrototypeObjective",
    "TargetRadiusProgram",
    "TripletObjective",
    "Triplets",
    "candidate_bounds",
    "margin_loss",
    "pair_margins",
    "smooth_largest",
    "triplet_margin",
]
