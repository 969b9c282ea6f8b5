r"""The certified margin of embeddings against learned class proxies, as a loss.

For an embedding z of class c, and proxies w_i of class c, w_j of the others,

    L = mean of [ r − t(z) ]₊ / r ,
    t(z) = min_j max_i ( ‖z − w_j‖² − ‖z − w_i‖² ) / ( 2 ‖w_i − w_j‖ ),

with both extremes smoothed by log Σ exp at a share of r. No change of z that is shorter than
t(z) changes the class of its nearest proxy; behind a network with Lipschitz constant 1 no change
of the input does.
"""

from numbers import Integral
from typing import Any

import torch
from torch import nn

from skrobust.objectives import smooth_largest

__all__ = ["CertifiedMarginLoss"]

_TINY = 1e-12


class CertifiedMarginLoss(nn.Module):
    """A hinge on the certified margin to the proxies of the other classes.

    Parameters
    ----------
    num_classes : int
    embedding_size : int
    target_radius : float, default=0.2
        r, > 0, in the units of the embedding. Behind a 1-Lipschitz network with
        ``standardize=True`` a unit is the root mean square distance of the training points from
        their mean.
    temperature : float, default=0.1
        Temperature of the smoothed extremes, a share of r, > 0.
    proxies_per_class : int, default=1
    """

    labels: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        target_radius: float = 0.2,
        temperature: float = 0.1,
        proxies_per_class: Any = 1,
    ):
        super().__init__()
        for name, value in (("target_radius", target_radius), ("temperature", temperature)):
            if not 0 < value < torch.inf:
                raise ValueError(f"{name} must be finite and > 0; got {value!r}.")
        if not isinstance(proxies_per_class, Integral) or proxies_per_class < 1:
            raise ValueError(
                f"proxies_per_class must be an integer >= 1; got {proxies_per_class!r}."
            )
        self.target_radius, self.temperature = float(target_radius), float(temperature)
        n = num_classes * int(proxies_per_class)
        self.proxies = nn.Parameter(0.1 * torch.randn(n, embedding_size))
        self.register_buffer("labels", torch.arange(n) % num_classes)

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, chosen: object = None
    ) -> torch.Tensor:
        """Return the loss of a batch; there are no pairs to choose.

        Parameters
        ----------
        embeddings : Tensor of shape (n, embedding_size)
        labels : Tensor of shape (n,), int64
        chosen : None
        """
        return (1 - self.margins(embeddings, labels) / self.target_radius).clamp_min(0).mean()

    def margins(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return t(z), smoothed, of shape (n,)."""
        w = self.proxies
        far = (embeddings[:, None] - w).square().sum(2)
        gaps = (w[:, None] - w).square().sum(2).clamp_min(_TINY).sqrt()
        same = labels[:, None].eq(self.labels)
        u = self.temperature * self.target_radius
        # (n, other, own)
        margin = (far[:, :, None] - far[:, None, :]) / (2 * gaps)
        own = smooth_largest(margin.masked_fill(~same[:, None, :], -torch.inf), 1, u)
        return -smooth_largest((-own).masked_fill(same, -torch.inf), 1, u)
