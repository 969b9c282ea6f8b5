"""Nearest-neighbour classifiers that carry their proof, and selections of their points."""

from skrobust.neighbors._adversarial_pruning import AdversarialPruning
from skrobust.neighbors._robust_knn import RobustKNeighborsClassifier
from skrobust.neighbors._robust_prototypes import RobustPrototypeClassifier
from skrobust.neighbors._wilson_editing import WilsonEditing

__all__ = [
    "AdversarialPruning",
    "RobustKNeighborsClassifier",
    "RobustPrototypeClassifier",
    "WilsonEditing",
]
