"""Attacks on clusterings."""

from skrobust.attacks.clusters._clustering import ClusteringAttack
from skrobust.attacks.clusters._parts import ClusteringAttackResult
from skrobust.attacks.clusters._poisoning import ClusterPoisoning

__all__ = [
    "ClusterPoisoning",
    "ClusteringAttack",
    "ClusteringAttackResult",
]
