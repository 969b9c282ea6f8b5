"""Attacks on fitted estimators: upper bounds on their robustness.

An attack is an estimator. ``run(estimator, X, y)`` attacks a fitted one and returns an
`AttackResult`; as a transformer it fits its own victim and perturbs points against its predictions.
"""

from skrobust.attacks._base import BaseAttack
from skrobust.attacks._problem import AttackProblem
from skrobust.attacks._result import AttackResult
from skrobust.attacks.classifiers import (
    APGD,
    FGSM,
    PGD,
    HopSkipJump,
    MinimumNormAttack,
    NoiseAttack,
    TransferAttack,
    WorstCase,
)
from skrobust.attacks.clusters import ClusteringAttack, ClusteringAttackResult, ClusterPoisoning
from skrobust.attacks.embeddings import (
    BaseEmbeddingAttack,
    EmbeddingAttackResult,
    EmbeddingMargin,
    EmbeddingNoise,
    EmbeddingShift,
    EmbeddingTargets,
    PairAttack,
    PairAttackResult,
    RankingAttack,
)
from skrobust.attacks.neighbors import (
    ExactNeighborAttack,
    GreedyNeighborAttack,
    NeighborDirectionAttack,
)

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "AttackProblem",
    "AttackResult",
    "BaseAttack",
    "BaseEmbeddingAttack",
    "ClusterPoisoning",
    "ClusteringAttack",
    "ClusteringAttackResult",
    "EmbeddingAttackResult",
    "EmbeddingMargin",
    "EmbeddingNoise",
    "EmbeddingShift",
    "EmbeddingTargets",
    "ExactNeighborAttack",
    "GreedyNeighborAttack",
    "HopSkipJump",
    "MinimumNormAttack",
    "NeighborDirectionAttack",
    "NoiseAttack",
    "PairAttack",
    "PairAttackResult",
    "RankingAttack",
    "TransferAttack",
    "WorstCase",
]
