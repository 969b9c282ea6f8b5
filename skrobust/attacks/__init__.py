"""Attacks on fitted estimators: upper bounds on their robustness.

An attack is an estimator. ``run(estimator, X, y)`` attacks a fitted one and returns an
`AttackResult`; as a transformer it fits its own victim and perturbs points against its predictions.
"""

from skrobust.attacks._ascent import ascend, steepest
from skrobust.attacks._base import BaseAttack, check_same_threat_model
from skrobust.attacks._problem import (
    AttackProblem,
    ScaledRows,
    checked_scores,
    resolve_budget,
    resolve_eps,
)
from skrobust.attacks._result import AttackResult, EmbeddingAttackResult
from skrobust.attacks.classifiers._apgd import APGD
from skrobust.attacks.classifiers._hop_skip_jump import HopSkipJump
from skrobust.attacks.classifiers._minimum_norm import MinimumNormAttack
from skrobust.attacks.classifiers._noise import NoiseAttack
from skrobust.attacks.classifiers._pgd import FGSM, PGD
from skrobust.attacks.classifiers._transfer import TransferAttack
from skrobust.attacks.classifiers._worst_case import WorstCase
from skrobust.attacks.clusters._clustering import ClusteringAttack
from skrobust.attacks.clusters._parts import ClusteringAttackResult
from skrobust.attacks.clusters._poisoning import ClusterPoisoning
from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, BlindAttackWarning
from skrobust.attacks.embeddings._margin import EmbeddingMargin
from skrobust.attacks.embeddings._pairs import PairAttack, PairAttackResult
from skrobust.attacks.embeddings._ranking import RankingAttack
from skrobust.attacks.embeddings._shift import EmbeddingNoise, EmbeddingShift
from skrobust.attacks.embeddings._targets import EmbeddingTargets
from skrobust.attacks.neighbors._nearest_neighbor import (
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
    "resolve_eps",
    "steepest",
]
