r"""Hardness manipulation (HM), with the gradual adversary (LGA) and the structure loss (ICS).

The hardness of a triplet is ``H = ‖f(a) − f(p)‖ − ‖f(a) − f(n)‖``. The adversary moves all three
points until H reaches a destination H_D, and no further,

    min  [H_D − H(a', p', n')]₊² ,

and the loss is that of the triplet of the moved points. The gradual adversary grows as the
loss ℓ of the step before falls,

    H_D = −γ min(u, ℓ_{t−1}) / u,      u = γ,

and the structure within classes is kept by  λ [‖f(a) − f(a')‖ − ‖f(a) − f(p)‖]₊  (Zhou and Patel,
*Enhancing adversarial robustness for deep metric learning*, CVPR 2022).
"""

from numbers import Real
from typing import Any, ClassVar

import torch

from skrobust.deep.strategies._base import TrainingStep, distances
from skrobust.deep.strategies._triplets import SOURCES, Triplet, TripletStrategy, triplet_loss
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["HardnessManipulation"]


class HardnessManipulation(TripletStrategy):
    """Train on triplets that are made as hard as the state of the training allows.

    The loss of the estimator is taken on these triplets; its miner is not used. The paper uses
    ``loss="triplet"``.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    source : {"random", "semihard", "softhard", "hard"}, default="semihard"
        Which triplets are taken, one for each row of a batch.
    destination : {"lga", "random", "semihard", "softhard", "hard"} or float, default="lga"
        H_D: that of the gradual adversary, of a triplet of another kind with the same anchor, or a
        number.
    structure_weight : float, default=0.5
        λ of the structure loss; 0 leaves it out.
    margin : float, default=0.2
        γ.
    max_iter : int, default=7
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 2.5 / max_iter, at most 1.
    start : float, default=0.0
        Radius of the random start, as a share of the budget.

    Examples
    --------
    >>> from skrobust.deep import HardnessManipulation
    >>> HardnessManipulation(destination="softhard")
    HardnessManipulation(destination='softhard')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TripletStrategy._parameter_constraints,
        "destination": [StrOptions({"lga", *SOURCES}), Real],
        "structure_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        source: str = "semihard",
        destination: Any = "lga",
        structure_weight: float = 0.5,
        margin: float = 0.2,
        max_iter: int = 7,
        step_size: float | None = None,
        start: float = 0.0,
    ):
        super().__init__(
            threat_model,
            source=source,
            margin=margin,
            max_iter=max_iter,
            step_size=step_size,
            start=start,
        )
        self.destination = destination
        self.structure_weight = structure_weight

    def _loss(self, step: TrainingStep, clean: torch.Tensor, chosen: Triplet) -> torch.Tensor:
        a, p, _ = chosen
        goal = self._destination(step, clean, a)

        def value(z: torch.Tensor) -> torch.Tensor:
            return -(goal - hardness(*z.chunk(3))).clamp_min(0).square()

        moved = step.attack(step.x[torch.cat(chosen)], value, self)  # a', p', n', one by one
        if self.structure_weight:
            both = step.embed(torch.cat([moved, step.x[a], step.x[p]]))
            z, anchor, positive = both.split([3 * len(a), len(a), len(a)])
        else:
            z = step.embed(moved)
        loss = triplet_loss(step.criterion, z, step.y, chosen)
        if self.destination == "lga":  # the next step's adversary grows as this loss falls
            gap = hardness(*z.detach().chunk(3)) + self.margin
            step.memory["triplet_loss"] = float(gap.clamp_min(0).mean())
        if self.structure_weight:
            excess = distances(anchor, z[: len(a)]) - distances(anchor, positive)
            loss = loss + self.structure_weight * excess.clamp_min(0).mean()
        return loss

    def _destination(self, step: TrainingStep, clean: torch.Tensor, a: torch.Tensor) -> Any:
        """Return H_D, a number or one for each anchor."""
        if self.destination == "lga":
            return -min(self.margin, step.memory.get("triplet_loss", self.margin))
        if not isinstance(self.destination, str):
            return float(self.destination)
        _, p, n = self._draw(step, clean, self.destination)
        return hardness(clean[a], clean[p], clean[n])


def hardness(a: torch.Tensor, p: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """Return how much farther the positive is than the negative."""
    return distances(a, p) - distances(a, n)
