"""The base of the training strategies: what a batch offers, and how it becomes a loss."""

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

__all__ = ["AdversarialStrategy", "StandardTraining", "Training", "TrainingStep", "distances"]


@dataclass(eq=False)
class TrainingStep:
    """A batch, and what a strategy may do with it.

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
        The numbers that :meth:`Training.assign` gave the rows.
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
        is the caller (``self``), whose `max_iter`, `step_size` and `start` count. The module is
        in evaluation mode meanwhile, and its parameters get no gradients; the criterion
        remembers nothing.
        """
        adversary = self.require_adversary()
        with self.still(), route(self.module, branches):
            return adversary.ascend(
                x, lambda moved: value(self.module(moved.clone())), **strategy.ascent
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


class StandardTraining(Training):
    """The loss of the clean batch: the reference that the others are compared with.

    Examples
    --------
    >>> from skrobust.deep import StandardTraining
    >>> StandardTraining()
    StandardTraining()
    """

    def loss(self, step: TrainingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and its embeddings; see :class:`Training`.

        Parameters
        ----------
        step : TrainingStep
        """
        z = step.embed(step.x)
        return step.criterion(z, step.y), z


class AdversarialStrategy(Training):
    """Base of the strategies that attack their batches.

    A subclass with parameters of its own, or other defaults, hands these on.

    Parameters
    ----------
    threat_model : ThreatModel, default=None
        What the adversary may change, in the units of X; None is ``ThreatModel()``.
    max_iter : int, default=7
        Steps of the adversary.
    step_size : float, default=None
        Of one step, as a share of the budget; None is 2.5 / max_iter, at most 1.
    start : float, default=1.0
        Radius of the random start, as a share of the budget.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "threat_model": [ThreatModel, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither"), None],
        "start": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        threat_model: ThreatModel | None = None,
        *,
        max_iter: int = 7,
        step_size: float | None = None,
        start: float = 1.0,
    ):
        self.threat_model = threat_model
        self.max_iter = max_iter
        self.step_size = step_size
        self.start = start

    @property
    def rate(self) -> float:
        """The step, a share of the budget: 2.5 over the number of steps, at most 1, by default."""
        return min(1.0, 2.5 / self.max_iter) if self.step_size is None else self.step_size

    @property
    def ascent(self) -> dict[str, Any]:
        """Number, size and start of the adversary's steps, as `Adversary.ascend` takes them."""
        return {"max_iter": self.max_iter, "step_size": self.rate, "start": self.start}

    def _check_start(self, where: str) -> None:
        """Raise where the movement of embeddings is raised from the clean point itself."""
        if self.start == 0:
            raise ValueError(
                f"start must be > 0 {where}: at the clean point the movement has no gradient; "
                "got 0."
            )


def distances(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the distances of rows, with a gradient at 0."""
    return (u - v).square().sum(-1).clamp_min(1e-12).sqrt()
