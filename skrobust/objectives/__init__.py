"""What a fit minimises: pure, differentiable functions of a metric and of data.

To add an objective, write a small ``BaseEstimator`` with the method
``value(components, X, anchors, neighbors, generator)`` of
:class:`~skrobust.objectives.TripletObjective`, and give it to
``RobustMahalanobis(objective=...)``.
"""

from skrobust.objectives._bounds import pair_margins, triplet_margin
from skrobust.objectives._certificate import CertificateObjective, smooth_largest
from skrobust.objectives._losses import LOSSES, margin_loss
from skrobust.objectives._triplet import TripletObjective

__all__ = [
    "LOSSES",
    "CertificateObjective",
    "TripletObjective",
    "margin_loss",
    "pair_margins",
    "smooth_largest",
    "triplet_margin",
]
