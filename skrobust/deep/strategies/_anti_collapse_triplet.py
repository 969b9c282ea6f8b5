r"""Anti-collapse triplets (ACT).

For a triplet (a, p, n) the adversary draws the positive and the negative together,

    (p*, n*) = argmin ‖f(p') − f(n')‖,

and the loss is that of the triplet (a, p*, n*) with its clean anchor: to pull p* and push n* apart
again the embedding has to spread, where a min–max over all three points can be met by
collapsing it (Zhou, Wang, Niu, Zhang, Xu, Zheng and Hua, *Practical relative order attack …*
and *Adversarial attack and defense in deep ranking*, arXiv:2106.03614).
"""

import torch

from skrobust.deep.strategies._base import TrainingStep, distances
from skrobust.deep.strategies._triplets import Triplet, TripletStrategy, triplet_loss

__all__ = ["AntiCollapseTriplet"]


class AntiCollapseTriplet(TripletStrategy):
    """Train on triplets whose positive and negative are drawn together by the adversary.

    The loss of the estimator is taken on these triplets; its miner is not used. The paper uses
    ``loss="triplet"``.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, with a budget, in the units of X. None is ℓ∞ with a tenth
        of the standard deviation of the training values (of each feature for tables).
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
