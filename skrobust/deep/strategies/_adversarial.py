r"""Adversarial training of an embedding f with a metric loss L.

    min_f  L(f(x'), y),      x' = argmax L(f(x'), y)                       (objective="loss")
    min_f  L(f(x), y) + β E‖f(x') − f(x)‖²,   x' = argmax ‖f(x') − f(x)‖²   (objective="trades")

The first is Madry et al., ICLR 2018, with a metric loss in place of the cross entropy; the second
carries TRADES (Zhang et al., ICML 2019) over to embeddings: both terms have to be scanned anew.
"""

from numbers import Real
from typing import Any, ClassVar

import torch

from skrobust.deep.strategies._base import AdversarialStrategy, TrainingStep
from skrobust.threat_model import ThreatModel
from skrobust.utils._sklearn import Interval, StrOptions

__all__ = ["AdversarialTraining"]


class AdversarialTraining(AdversarialStrategy):
    """Train on batches that are perturbed to raise the loss itself.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    objective : {"loss", "trades"}, default="loss"
        The loss of adversarial batches, or that of clean ones and how far the adversary moves
        their embeddings.
    beta : float, default=1.0
        β, weight of the movement; for "trades" only.
    clean_weight : float, default=0.0
        Share, in [0, 1], of the clean batch in the loss; for "loss" only.
    max_iter : int, default=7
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 2.5 / max_iter, at most 1.
    start : float, default=1.0
        Radius of the random start, as a share of the budget.

    Examples
    --------
    >>> from skrobust import ThreatModel
    >>> from skrobust.deep import AdversarialTraining
    >>> training = AdversarialTraining(ThreatModel(float("inf"), 8 / 255), max_iter=3)
    >>> training.get_params()["threat_model__eps"]
    0.03137254901960784
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AdversarialStrategy._parameter_constraints,
        "objective": [StrOptions({"loss", "trades"})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "clean_weight": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        objective: str = "loss",
        beta: float = 1.0,
        clean_weight: float = 0.0,
        max_iter: int = 7,
        step_size: float | None = None,
        start: float = 1.0,
    ):
        super().__init__(threat_model, max_iter=max_iter, step_size=step_size, start=start)
        self.objective = objective
        self.beta = beta
        self.clean_weight = clean_weight

    def check(self) -> None:
        """Raise where a parameter is not as described."""
        super().check()
        if self.objective == "trades":
            self._check_start("for objective='trades'")

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        if self.objective == "trades":
            return self._trades(step)
        moved = step.attack(step.x, lambda z: step.criterion(z, step.y), self)
        if self.clean_weight == 0:
            z = step.embed(moved)
            return step.criterion(z, step.y), z
        z = step.embed(torch.cat([step.x, moved]))
        clean, adversarial = z.split(len(step.x))
        weight = self.clean_weight
        loss = weight * step.criterion(clean, step.y)
        return loss + (1 - weight) * step.criterion(adversarial, step.y), clean

    def _trades(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        target = step.embed_eval(step.x)
        moved = step.attack(step.x, lambda z: (z - target).square().sum(1), self)
        clean, adversarial = step.embed(torch.cat([step.x, moved])).split(len(step.x))
        movement = (adversarial - clean).square().sum(1).mean()
        return step.criterion(clean, step.y) + self.beta * movement, clean
