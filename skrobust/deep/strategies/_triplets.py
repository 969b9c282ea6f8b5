"""One triplet for each row of a batch, and the strategies that train on them."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import torch

from skrobust.deep.strategies._base import AdversarialStrategy, TrainingStep
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["SOURCES", "Triplet", "TripletStrategy", "triplet_loss", "triplets"]

Triplet = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
SOURCES = ("random", "semihard", "softhard", "hard")


class TripletStrategy(AdversarialStrategy):
    """Base of the strategies that take a triplet for each row; a subclass writes `_loss`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AdversarialStrategy._parameter_constraints,
        "source": [StrOptions(set(SOURCES))],
        "margin": [Interval(Real, 0, None, closed="neither")],
    }

    source: str
    margin: float

    def _loss(self, step: TrainingStep, clean: torch.Tensor, chosen: Triplet) -> torch.Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        step : TrainingStep
        clean : Tensor of shape (n, embedding_dim)
            Embeddings of the batch.
        chosen : Triplet
            Positions of anchors, positives and negatives.
        """
        raise NotImplementedError

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        clean = step.embed_eval(step.x)
        chosen = self._draw(step, clean, self.source)
        if len(chosen[0]) == 0:
            return step.embed(step.x).sum() * 0, clean
        return self._loss(step, clean, chosen), clean

    def _draw(self, step: TrainingStep, clean: torch.Tensor, source: str) -> Triplet:
        generator = step.require_adversary().generator
        return triplets(clean, step.y, source, generator, self.margin)


def triplets(
    z: torch.Tensor, y: torch.Tensor, source: str, generator: torch.Generator, margin: float
) -> Triplet:
    """Return positions of anchors, positives and negatives.

    Parameters
    ----------
    z : Tensor of shape (n, embedding_dim)
        Embeddings, for the sources that look at distances.
    y : Tensor of shape (n,)
    source : {"random", "semihard", "softhard", "hard"}
        The positive is random, for "softhard" one that is farther than the nearest negative
        and for "hard" the farthest. The negative is random, for "semihard" one that is farther
        than the positive by less than the margin, for "softhard" one that is nearer than the
        farthest positive and for "hard" the nearest. Where there is none of the kind, it is
        random.
    generator : torch.Generator
    margin : float

    Returns
    -------
    anchors, positives, negatives : Tensor of shape (n_anchors,)
        Rows without another one of their class, or without another class, are no anchors.
    """
    same = y[:, None] == y
    other = ~same
    same = same & ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    anchors = torch.nonzero(same.any(1) & other.any(1))[:, 0]
    same, other = same[anchors], other[anchors]
    if len(anchors) == 0:
        return anchors, anchors, anchors
    apart = torch.cdist(z[anchors].float(), z.float())
    far = torch.where(same, apart, -torch.inf).amax(1, keepdim=True)
    near = torch.where(other, apart, torch.inf).amin(1, keepdim=True)
    if source == "softhard":
        same, other = _prefer(same, apart >= near), _prefer(other, apart <= far)
    elif source == "hard":
        same, other = same & (apart == far), other & (apart == near)
    positives = _draw(same, generator)
    if source == "semihard":
        own = apart.gather(1, positives[:, None])
        other = _prefer(other, (apart > own) & (apart < own + margin))
    return anchors, positives, _draw(other, generator)


def triplet_loss(
    criterion: Callable[..., torch.Tensor],
    z: torch.Tensor,
    labels: torch.Tensor,
    chosen: Triplet,
) -> torch.Tensor:
    """Return a metric loss of given triplets.

    Parameters
    ----------
    criterion : callable
    z : Tensor of shape (3 n, embedding_dim)
        Embeddings of anchors, positives and negatives, one after the other.
    labels : Tensor of shape (n_rows,)
        Of the batch.
    chosen : tuple of three Tensor of shape (n,)
        Positions of the triplets in the batch.
    """
    n = len(chosen[0])
    own = torch.arange(n, device=z.device)
    return criterion(z, labels[torch.cat(chosen)], (own, own + n, own + 2 * n))


def _prefer(mask: torch.Tensor, wish: torch.Tensor) -> torch.Tensor:
    """Return the wished part of a mask, or all of a row's where it is empty."""
    both = mask & wish
    return torch.where(both.any(1, keepdim=True), both, mask)


def _draw(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(mask.shape, generator=generator, device=mask.device)
    return torch.where(mask, drawn, -1).argmax(1)
