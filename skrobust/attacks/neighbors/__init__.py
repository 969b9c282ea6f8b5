"""Attacks on nearest-neighbour classifiers."""

from skrobust.attacks.neighbors._nearest_neighbor import (
    ExactNeighborAttack,
    GreedyNeighborAttack,
    NeighborDirectionAttack,
)

__all__ = [
    "ExactNeighborAttack",
    "GreedyNeighborAttack",
    "NeighborDirectionAttack",
]
