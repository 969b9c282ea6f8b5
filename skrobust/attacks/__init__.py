"""Attacks on fitted estimators: upper bounds on their robustness.

An attack is an estimator. ``run(estimator, X, y)`` attacks a fitted one and returns an
`AttackResult`; as a transformer it fits its own victim and perturbs points against its predictions.
"""

from skrobust.attacks._ascent import ascend, steepest
from skrobust.attacks._base import BaseAttack, check_same_threat_model, threat_model_or_default
from skrobust.attacks._problem import AttackProblem, ScaledRows, checked_scores, resolve_budget
from skrobust.attacks._result import AttackResult, EmbeddingAttackResult
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
    BlindAttackWarning,
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
    "BlindAttackWarning",
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
    "ScaledRows",
    "TransferAttack",
    "WorstCase",
    "ascend",
    "check_same_threat_model",
    "checked_scores",
    "resolve_budget",
    "steepest",
    "threat_model_or_default",
]
