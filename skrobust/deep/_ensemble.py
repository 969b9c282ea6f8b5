r"""Several networks as one embedding.

    e(x) = [ f_1(x) ; … ; f_M(x) ] / √M,      ‖e(x) − e(x')‖² = 1/M Σ_m ‖f_m(x) − f_m(x')‖² .

The members' spaces are not aligned, so that their embeddings are put side by side and not averaged.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["Ensemble", "EnsembleCriterion"]


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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return embeddings of shape (n, n_members · embedding_dim)."""
        return combine([member(x) for member in self.members])


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
        found = [
            loss(part * n**0.5, labels, chosen)
            for loss, part in zip(self.losses, parts, strict=True)
        ]
        return torch.stack(found).mean()


def combine(embeddings: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return ``[z_1; …; z_M] / √M``."""
    return torch.cat(list(embeddings), dim=1) / len(embeddings) ** 0.5
