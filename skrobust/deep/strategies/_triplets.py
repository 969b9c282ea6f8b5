r"""Training on triplets: one for each row of a batch, and anti-collapse triplets (ACT).

For a triplet (a, p, n) the adversary of ACT draws the positive and the negative together,

    (p*, n*) = argmin ‖f(p') − f(n')‖,

and the loss is that of the triplet (a, p*, n*) with its clean anchor: to pull p* and push n* apart
again the embedding has to spread, where a min–max over all three points can be met by
collapsing it (Zhou, Wang, Niu, Zhang, Xu, Zheng and Hua, *Practical relative order attack …*
and *Adversarial attack and defense in deep ranking*, arXiv:2106.03614).
"""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import torch

from skrobust.deep.strategies._base import AdversarialStrategy, TrainingStep, distances
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = [
    "SOURCES",
    "AntiCollapseTriplet",
    "Triplet",
    "TripletStrategy",
    "triplet_loss",
    "triplets",
]

Triplet = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
SOURCES = ("random", "semihard", "softhard", "hard")


class TripletStrategy(AdversarialStrategy):
    """Base of the strategies that take a triplet for each row; a subclass writes `_loss`.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    source : {"random", "semihard", "softhard", "hard"}, default="random"
        Which triplets are taken, one for each row of a batch.
    margin : float, default=0.2
        For ``source="semihard"``.
    max_iter, step_size, start
        See :class:`AdversarialStrategy`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AdversarialStrategy._parameter_constraints,
        "source": [StrOptions(set(SOURCES))],
        "margin": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        source: str = "random",
        margin: float = 0.2,
        max_iter: int = 7,
        step_size: float | None = None,
        start: float = 1.0,
    ):
        super().__init__(threat_model, max_iter=max_iter, step_size=step_size, start=start)
        self.source = source
        self.margin = margin

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
        if len(chosen[0]) == 0:  # no row has a partner: a loss of 0, with gradients
            return step.embed(step.x).sum() * 0, clean
        return self._loss(step, clean, chosen), clean

    def _draw(self, step: TrainingStep, clean: torch.Tensor, source: str) -> Triplet:
        generator = step.require_adversary().generator
        return triplets(clean, step.y, source, generator, self.margin)


class AntiCollapseTriplet(TripletStrategy):
    """Train on triplets whose positive and negative are drawn together by the adversary.

    The loss of the estimator is taken on these triplets; its miner is not used. The paper uses
    ``loss="triplet"``.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    source : {"random", "semihard", "softhard", "hard"}, default="random"
        Which triplets are taken, one for each row of a batch.
    margin : float, default=0.2
        For ``source="semihard"``.
    max_iter : int, default=7
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 2.5 / max_iter, at most 1.
    start : float, default=1.0
        Radius of the random start, as a share of the budget.

    Examples
    --------
    >>> from skrobust.deep import AntiCollapseTriplet
    >>> AntiCollapseTriplet(source="softhard")
    AntiCollapseTriplet(source='softhard')
    """

    def _loss(self, step: TrainingStep, clean: torch.Tensor, chosen: Triplet) -> torch.Tensor:
        a, p, n = chosen
        pair = torch.cat([step.x[p], step.x[n]])
        moved = step.attack(pair, lambda z: -distances(*z.chunk(2)), self)
        z = step.embed(torch.cat([step.x[a], moved]))
        return triplet_loss(step.criterion, z, step.y, chosen)


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
    same, other = same[anchors], other[anchors]  # (n_anchors, n)
    if len(anchors) == 0:
        return anchors, anchors, anchors
    # the farthest positive and the nearest negative bound what is hard
    distance = torch.cdist(z[anchors].float(), z.float())
    far = torch.where(same, distance, -torch.inf).amax(1, keepdim=True)
    near = torch.where(other, distance, torch.inf).amin(1, keepdim=True)
    if source == "softhard":
        same, other = _prefer(same, distance >= near), _prefer(other, distance <= far)
    elif source == "hard":
        same, other = same & (distance == far), other & (distance == near)
    positives = _draw(same, generator)
    if source == "semihard":
        own = distance.gather(1, positives[:, None])
        other = _prefer(other, (distance > own) & (distance < own + margin))
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


def _prefer(mask: torch.Tensor, preferred: torch.Tensor) -> torch.Tensor:
    """Return the preferred part of a mask, or all of a row's where it is empty."""
    both = mask & preferred
    return torch.where(both.any(1, keepdim=True), both, mask)


def _draw(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a random position of each row of a mask."""
    drawn = torch.rand(mask.shape, generator=generator, device=mask.device)
    return torch.where(mask, drawn, -1).argmax(1)
