"""Any fitted scikit-learn object, as a certificate or an attack needs it.

A chain of affine steps in front of a k-NN classifier becomes one nearest-neighbour rule in
the raw feature space. To teach it a new step or a new classifier, register a function with
``affine_map.register(MyStep)`` or ``as_nearest_neighbor_rule.register(MyClassifier)``; a class
of your own may instead offer ``_affine_map()`` or ``_as_nearest_neighbor_rule()``.

Attacks by gradients see a classifier through `differentiable_scores`, a transformer through
`differentiable_embedding`; both are extended in the same way.
"""

from skrobust.adapters._affine import AffineFunction, AffineMap, NotAffineError
from skrobust.adapters._differentiable import (
    NotDifferentiableError,
    check_gradient,
    differentiable_embedding,
    differentiable_scores,
)
from skrobust.adapters._fold import as_nearest_neighbor_rule
from skrobust.adapters._lipschitz import (
    LipschitzMap,
    LipschitzVictim,
    as_lipschitz_victim,
)
from skrobust.adapters._pipelines import as_pipeline, split_pipeline, unwrap
from skrobust.adapters._rule import EmbeddedQueries, NearestNeighborRule
from skrobust.adapters._scores import NeighborScores, Scores
from skrobust.adapters._steps import affine_map
from skrobust.adapters._torch_classifier import TorchClassifier

__all__ = [
    "AffineFunction",
    "AffineMap",
    "EmbeddedQueries",
    "LipschitzMap",
    "LipschitzVictim",
    "NearestNeighborRule",
    "NeighborScores",
    "NotAffineError",
    "NotDifferentiableError",
    "Scores",
    "TorchClassifier",
    "affine_map",
    "as_lipschitz_victim",
    "as_nearest_neighbor_rule",
    "as_pipeline",
    "check_gradient",
    "differentiable_embedding",
    "differentiable_scores",
    "split_pipeline",
    "unwrap",
]
