r"""Several networks as one embedding.

    e(x) = [ f_1(x) ; … ; f_M(x) ] / √M,      ‖e(x) − e(x')‖² = 1/M Σ_m ‖f_m(x) − f_m(x')‖² .

The members' spaces are not aligned, so that their embeddings are put side by side and not averaged.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from skrobust.deep.strategies._base import Training

__all__ = ["Ensemble", "EnsembleCriterion", "EnsembleStrategy"]


class Ensemble(nn.Module):
    """Networks whose embeddings are put side by side.

    Parameters
    ----------
    members : sequence of torch.nn.Module
        With outputs of the same size.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Any) -> Any:
        """Return embeddings of shape (n, n_members · embedding_dim).

        A list of inputs, one for each member, gives the list of their embeddings. (Several
        processes see one call only, in which all members take part.)
        """
        if isinstance(x, list):
            return [member(own) for member, own in zip(self.members, x, strict=True)]
        embeddings = [member(x) for member in self.members]
        return torch.cat(embeddings, dim=1) / len(embeddings) ** 0.5


class EnsembleCriterion(nn.Module):
    """The mean of the members' losses, each with proxies of its own.

    Parameters
    ----------
    losses : sequence of torch.nn.Module
    """

    def __init__(self, losses: Sequence[nn.Module]):
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, chosen: Any = None
    ) -> torch.Tensor:
        """Return the mean loss of combined embeddings."""
        n = len(self.losses)
        parts = embeddings.chunk(n, dim=1)
        values = [
            loss(part * n**0.5, labels, chosen)
            for loss, part in zip(self.losses, parts, strict=True)
        ]
        return torch.stack(values).mean()


class EnsembleStrategy(Training):
    """Base of the strategies that train several networks; a subclass has `n_members`."""

    n_members: int

    def build(self, make: Callable[[], nn.Module]) -> nn.Module:
        """Return an ensemble of new networks.

        Parameters
        ----------
        make : callable
        """
        return Ensemble([make() for _ in range(self.n_members)])

    def build_criterion(self, make: Callable[[], nn.Module]) -> nn.Module:
        """Return a loss for each member.

        Parameters
        ----------
        make : callable
        """
        return EnsembleCriterion([make() for _ in range(self.n_members)])

    @staticmethod
    def pairs(ensemble: Any, criterion: Any) -> list[tuple[nn.Module, nn.Module]]:
        """Return each member with its loss."""
        return list(zip(ensemble.members, criterion.losses, strict=True))
