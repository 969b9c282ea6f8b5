"""What a training strategy is given, and what it has to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from skrobust.deep._adversary import Adversary
from skrobust.deep._batch_norm_bank import CLEAN, route
from skrobust.threat_model import ThreatModel
from skrobust.utils._estimator import BaseEstimator
from skrobust.utils._sklearn import Interval
from skrobust.utils._torch import eval_mode

__all__ = ["AdversarialStrategy", "Training", "TrainingStep"]


@dataclass(eq=False)
class TrainingStep:
    """One batch, and what a strategy may do with it.

    Attributes
    ----------
    model : torch.nn.Module
        In training mode; perhaps wrapped for several processes.
    module : torch.nn.Module
        The same without a wrapper.
    criterion : callable
        ``criterion(embeddings, labels, chosen=None)``.
    x : Tensor of shape (n, ...)
        Inputs of the module.
    y : Tensor of shape (n,)
        Labels 0, 1, ….
    adversary : Adversary or None
    parts : Tensor of shape (n,) or None
        What :meth:`Training.assign` said of the rows.
    memory : dict of str to float
        What a strategy keeps from step to step; it is part of a checkpoint.
    """

    model: nn.Module
    module: nn.Module
    criterion: Callable[..., torch.Tensor]
    x: torch.Tensor
    y: torch.Tensor
    adversary: Adversary | None
    parts: torch.Tensor | None = None
    memory: dict[str, float] = field(default_factory=dict)

    def embed(self, x: torch.Tensor, branches: Any = CLEAN) -> torch.Tensor:
        """Return embeddings in training mode, through branches of batch norms (see `route`)."""
        with route(self.module, branches):
            return self.model(x.clone())  # the module may work in place

    def attack(
        self,
        x: torch.Tensor,
        value: Callable[[torch.Tensor], torch.Tensor],
        strategy: "AdversarialStrategy",
        branches: Any = CLEAN,
    ) -> torch.Tensor:
        """Return rows moved so that a value of their embeddings is larger.

        `value` takes embeddings and returns a number for each row, or one for all; `strategy`
        is the one that asks (``self``), whose steps are made. The module is in evaluation
        mode meanwhile, and its parameters get no gradients; the criterion remembers nothing.
        """
        adversary = self.require_adversary()
        with self.still(), route(self.module, branches):
            return adversary.ascend(
                x,
                lambda moved: value(self.module(moved.clone())),
                max_iter=strategy.max_iter,
                step_size=strategy.rate,
                start=strategy.start,
            )

    @contextmanager
    def still(self) -> Iterator[None]:
        """Put module and criterion into evaluation mode inside a ``with`` block."""
        criterion = self.criterion if isinstance(self.criterion, nn.Module) else nn.Module()
        with eval_mode(self.module), eval_mode(criterion):
            yield

    def embed_eval(self, x: torch.Tensor, branches: Any = CLEAN) -> torch.Tensor:
        """Return embeddings in evaluation mode, without gradients."""
        with torch.no_grad(), eval_mode(self.module), route(self.module, branches):
            return self.module(x)

    def require_adversary(self) -> Adversary:
        """Return the adversary."""
        if self.adversary is None:
            raise RuntimeError(
                "there is no adversary; derive the strategy from AdversarialStrategy, which has a "
                "threat_model."
            )
        return self.adversary


class Training(BaseEstimator):
    """Base of the training strategies: how a batch becomes a loss.

    A subclass writes :meth:`loss`, and :meth:`prepare` where it needs another module.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def check(self) -> None:
        """Raise where a parameter is not as described."""
        self._validate_params()

    def prepare(self, module: nn.Module) -> nn.Module:
        """Return the module that will be trained; it may be changed in place.

        Parameters
        ----------
        module : torch.nn.Module
        """
        return module

    def build(self, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module that will be trained, made of one or several networks.

        Parameters
        ----------
        make : callable
            Returns a new network.
        """
        return self.prepare(make())

    def build_criterion(self, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the metric loss; with several networks, one for each.

        Parameters
        ----------
        make : callable
            Returns a new loss.
        """
        return make()

    def assign(self, y: np.ndarray, random_state: np.random.RandomState) -> np.ndarray | None:
        """Return a number for each training row that its batches will know, or None.

        Parameters
        ----------
        y : ndarray of shape (n_samples,)
            Labels 0, 1, ….
        random_state : RandomState
        """
        return None

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, and an embedding of each of its rows.

        Parameters
        ----------
        step : TrainingStep

        Returns
        -------
        loss : Tensor of shape ()
        embeddings : Tensor of shape (n, embedding_dim)
            Of the rows of ``step.x``, in their order; clean ones where they are at hand.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method loss(step).")


class AdversarialStrategy(Training):
    """Base of the strategies that attack their batches.

    A subclass may have these as parameters, with other defaults.

    Attributes
    ----------
    threat_model : ThreatModel or None
        What the adversary may change; None is a tenth of the standard deviation, in ℓ∞.
    max_iter : int
        Its steps.
    step_size : float or None
        Of one step, as a share of the budget.
    start : float
        Radius of the random start, as a share of the budget.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "threat_model": [ThreatModel, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither"), None],
        "start": [Interval(Real, 0, None, closed="left")],
    }

    threat_model: ThreatModel | None = None
    max_iter: int = 7
    step_size: float | None = None
    start: float = 1.0

    @property
    def rate(self) -> float:
        """The step, a share of the budget: 2.5 over the number of steps, at most 1, by default."""
        return min(1.0, 2.5 / self.max_iter) if self.step_size is None else self.step_size


def distances(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the distances of rows, with a gradient at 0."""
    return (u - v).square().sum(-1).clamp_min(1e-12).sqrt()
