"""Nearest-neighbour classifiers that carry their proof."""

from skrobust.neighbors._robust_knn import RobustKNeighborsClassifier

__all__ = ["RobustKNeighborsClassifier"]
