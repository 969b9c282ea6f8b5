"""What a fit minimises: pure, differentiable functions of a metric and of data.

To add an objective, write a small ``BaseEstimator`` with the method
``value(components, X, anchors, neighbors, generator)`` of
:class:`~skrobust.objectives.TripletObjective`, and give it to
``RobustMahalanobis(objective=...)``.
"""

from skrobust.objectives._bounds import triplet_margin
from skrobust.objectives._losses import LOSSES, margin_loss
from skrobust.objectives._triplet import TripletObjective

__all__ = ["LOSSES", "TripletObjective", "margin_loss", "triplet_margin"]
