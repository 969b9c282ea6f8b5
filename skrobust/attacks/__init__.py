"""Attacks on fitted estimators: upper bounds on their robustness.

An attack is an estimator. ``run(estimator, X, y)`` attacks a fitted one and returns an
`AttackResult`; as a transformer it fits its own victim and perturbs points against its predictions.
"""

from skrobust.attacks._apgd import APGD
from skrobust.attacks._base import BaseAttack
from skrobust.attacks._cluster_poisoning import ClusterPoisoning
from skrobust.attacks._clustering import ClusteringAttack
from skrobust.attacks._clustering_parts import ClusteringAttackResult
from skrobust.attacks._embedding import BaseEmbeddingAttack, EmbeddingAttackResult
from skrobust.attacks._embedding_margin import EmbeddingMargin
from skrobust.attacks._embedding_moves import EmbeddingShift, EmbeddingTargets
from skrobust.attacks._embedding_noise import EmbeddingNoise
from skrobust.attacks._hop_skip_jump import HopSkipJump
from skrobust.attacks._minimum_norm import MinimumNormAttack
from skrobust.attacks._nearest_neighbor import (
    ExactNeighborAttack,
    GreedyNeighborAttack,
    NeighborDirectionAttack,
)
from skrobust.attacks._noise import NoiseAttack
from skrobust.attacks._pair_attack import PairAttack, PairAttackResult
from skrobust.attacks._pgd import FGSM, PGD
from skrobust.attacks._problem import AttackProblem
from skrobust.attacks._ranking import RankingAttack
from skrobust.attacks._result import AttackResult
from skrobust.attacks._transfer import TransferAttack
from skrobust.attacks._worst_case import WorstCase

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
