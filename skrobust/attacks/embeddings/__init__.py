"""Attacks on embeddings, rankings and pairs."""

from skrobust.attacks.embeddings._base import BaseEmbeddingAttack, BlindAttackWarning
from skrobust.attacks.embeddings._margin import EmbeddingMargin
from skrobust.attacks.embeddings._moves import EmbeddingShift, EmbeddingTargets
from skrobust.attacks.embeddings._noise import EmbeddingNoise
from skrobust.attacks.embeddings._pairs import PairAttack, PairAttackResult
from skrobust.attacks.embeddings._ranking import RankingAttack

__all__ = [
    "BaseEmbeddingAttack",
    "BlindAttackWarning",
    "EmbeddingMargin",
    "EmbeddingNoise",
    "EmbeddingShift",
    "EmbeddingTargets",
    "PairAttack",
    "PairAttackResult",
    "RankingAttack",
]
