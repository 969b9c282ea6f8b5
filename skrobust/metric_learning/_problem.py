"""What a solver is given: parameters to start from, losses of batches, and who judges."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from skrobust.metric_learning._best_iterate import BestIterate, Validation
from skrobust.numerics import nearest_by_class
from skrobust.objectives import MetricObjective, candidate_bounds
from skrobust.utils._torch import to_numpy

__all__ = ["FitProblem", "MetricProblem", "ValidationSet", "split_anchors"]

_MOST_HELD_OUT = 2048
_CHUNK = 256

# the loss of parameters on a batch of anchors
BatchLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class FitProblem(ABC):
    """Base class: parameters to be learned, in one tensor, from batches of anchors.

    Attributes
    ----------
    parameters : Tensor
        Where a fit starts.
    anchors : Tensor of shape (n_anchors,), int64
        Points that the objective is a mean over.
    validation : Validation or None
        None: iterates are judged by their loss.
    generator : torch.Generator
        On the CPU.
    verbose : int, default=0
    callback : callable, default=None
        The user's: called with number, loss and iterate.
    on_epoch_end : callable, default=None
        Called with the number, and a function that returns what would be kept if it ended here.
    """

    parameters: torch.Tensor
    anchors: torch.Tensor
    validation: Validation | None
    generator: torch.Generator
    verbose: int = 0
    callback: Callable[[int, float, np.ndarray], bool | None] | None = None
    on_epoch_end: Callable[[int, Callable[[], np.ndarray]], bool] | None = None

    @property
    @abstractmethod
    def anneals(self) -> bool:
        """Whether the objective changes while a fit goes on, so that its end is a schedule's."""

    def start(self) -> torch.Tensor:
        """Return the variable of a solver that follows gradients, at the start."""
        return self.parameters.clone()

    @abstractmethod
    def epoch(
        self, parameters: torch.Tensor, size: int | None, progress: float
    ) -> tuple[torch.Tensor, BatchLoss]:
        """Return the anchors of an epoch, and the loss of parameters on a batch of them.

        Parameters
        ----------
        parameters : Tensor
            The iterate of the moment.
        size : int or None
            Anchors to draw; None is all.
        progress : float
            How far the fit is, from 0 at its start to 1 at its end.
        """

    def ends(self, number: int, loss: float, parameters: torch.Tensor, best: BestIterate) -> bool:
        """Call back after an epoch or round; return whether a callback wants it to be the last."""
        end = self.on_epoch_end is not None and self.on_epoch_end(
            number, lambda: to_numpy(best.chosen.parameters)
        )
        if self.callback is not None:
            end |= bool(self.callback(number, loss, to_numpy(parameters).copy()))
        return end

    def sample(self, size: int | None) -> torch.Tensor:
        """Return `size` anchors in random order, fewer where there are fewer; None is all."""
        shuffled = torch.randperm(len(self.anchors), generator=self.generator)
        return self.anchors[shuffled[:size]]


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricProblem(FitProblem):
    """A metric to be learned; the parameters are G, of shape (n_components, n_features).

    Attributes
    ----------
    objective : MetricObjective
        Prepared for the data.
    X : Tensor of shape (n_samples, n_features)
        Training points, sorted by class and centred.
    class_slices : sequence of slice
        The rows of each class.
    n_candidates : int
        Nearest neighbours of either kind that the objective may use.
    """

    objective: MetricObjective
    X: torch.Tensor
    class_slices: Sequence[slice]
    n_candidates: int

    @property
    def anneals(self) -> bool:
        """Whether the objective changes while a fit goes on."""
        return self.objective.anneals

    def start(self) -> torch.Tensor:
        """Return G at size √n_components: the objective does not see the size, a step does."""
        size = torch.linalg.matrix_norm(self.parameters) / len(self.parameters) ** 0.5
        return self.parameters / size

    def epoch(
        self, parameters: torch.Tensor, size: int | None, progress: float
    ) -> tuple[torch.Tensor, BatchLoss]:
        """Draw anchors, and search their candidates under the metric of the moment."""
        objective, anchors = self.objective.at(progress), self.sample(size)
        with torch.no_grad():
            neighbors = nearest_by_class(
                self.X @ parameters.T, self.class_slices, self.n_candidates, anchors
            )
        return anchors, lambda G, batch: objective.value(
            G, self.X, batch, neighbors, self.generator
        )


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Training points that are no anchors, on which metrics are judged.

    Each is certified against all other training points, over its nearest candidates.

    Attributes
    ----------
    X : Tensor of shape (n_samples, n_features)
        All training points, sorted by class.
    class_slices : sequence of slice
    points : Tensor of shape (n_points,), int64
    n_candidates : int
    objective : MetricObjective
        Has K, the norm and the target radius.
    """

    X: torch.Tensor
    class_slices: Sequence[slice]
    points: torch.Tensor
    n_candidates: int
    objective: MetricObjective

    @torch.no_grad()
    def bounds(self, components: torch.Tensor) -> torch.Tensor:
        """Return the signed bound of each held-out point; ±inf without candidates."""
        neighbors = nearest_by_class(
            self.X @ components.T, self.class_slices, self.n_candidates, self.points
        )
        scale, dual = self.objective.scale_and_dual(self.X)
        bounds = [
            candidate_bounds(
                components,
                self.X,
                points,
                neighbors,
                n_neighbors=self.objective.n_neighbors,
                scale=scale,
                dual=dual,
            )
            for points in self.points.split(_CHUNK)
        ]
        return torch.cat(bounds)

    def radii(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the radius of each held-out point, at most the target radius; 0 where wrong.

        It is inf where no candidate can be reached, and there is no target radius.
        """
        radii = self.bounds(parameters).clamp_min(0)
        if self.objective.target_radius is not None:
            radii = radii.clamp_max(self.objective.target_radius)
        return radii


def split_anchors(
    class_slices: Sequence[slice], fraction: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return anchors for training, and held-out ones, at random.

    A point that is alone in its class has no positive, so it is no anchor. At least one anchor
    remains for training; with too few points nothing is held out.
    """
    anchors = torch.cat(
        [torch.arange(s.start, s.stop) for s in class_slices if s.stop - s.start > 1]
    )
    n_held_out = min(round(fraction * len(anchors)), len(anchors) - 1, _MOST_HELD_OUT)
    if n_held_out == 0:
        return anchors, anchors[:0]
    shuffled = anchors[torch.randperm(len(anchors), generator=generator)]
    return shuffled[n_held_out:].sort().values, shuffled[:n_held_out].sort().values
