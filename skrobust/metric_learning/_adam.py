"""Adam on the components G, unconstrained: one loop, one result."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from skrobust.numerics import ClassNeighbors, nearest_by_class
from skrobust.utils._torch import to_numpy

__all__ = ["AdamSolver", "Objective", "SolverResult"]

_EVALUATION_BATCH = 1024

Callback = Callable[[int, float, np.ndarray], bool | None]


class Objective(Protocol):
    """What the solver minimises."""

    def value(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        anchors: torch.Tensor,
        neighbors: ClassNeighbors,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the objective on a batch of anchors, a tensor of shape ()."""


@dataclass(frozen=True, eq=False)
class SolverResult:
    """The end of a solve.

    Attributes
    ----------
    components : ndarray of shape (n_components, n_features)
        The iterate with the lowest loss.
    loss_curve : list of float
        The objective after each epoch, on fresh triplets of all anchors.
    status : {"converged", "max_iter", "interrupted", "callback", "not_finite"}
        Why the solve ended.
    """

    components: np.ndarray
    loss_curve: list[float]
    status: str


@dataclass(frozen=True)
class AdamSolver:
    """Minimise an objective over G by Adam, neighbours searched again every epoch.

    Parameters
    ----------
    n_candidates : int
        Nearest neighbours of either kind that the objective may use.
    batch_size : int
        Anchors a step.
    max_iter : int
        Epochs at most.
    learning_rate : float
        Adam's step size.
    tol : float
        An epoch improves if its loss is below the best one by ``tol * |best|``.
    n_iter_no_change : int
        Stop after this many epochs without improvement.
    verbose : int
        Print every `verbose`-th epoch; 0 is silent.
    callback : callable or None
        ``callback(n_iter, loss, components)`` after each epoch; true ends the solve.
    """

    n_candidates: int
    batch_size: int
    max_iter: int
    learning_rate: float
    tol: float
    n_iter_no_change: int
    verbose: int = 0
    callback: Callback | None = None

    def solve(
        self,
        objective: Objective,
        components: torch.Tensor,
        X: torch.Tensor,
        class_slices: Sequence[slice],
        generator: torch.Generator,
    ) -> SolverResult:
        """Start from `components` (n_components, n_features) on `X`, sorted by class."""
        variable = components.clone().requires_grad_()
        optimizer = torch.optim.Adam([variable], lr=self.learning_rate)
        # a point that is alone in its class has no positive, so it is no anchor
        anchors = torch.cat(
            [torch.arange(s.start, s.stop) for s in class_slices if s.stop - s.start > 1]
        )
        loss_curve: list[float] = []
        best, best_loss, waited, status = components.clone(), np.inf, 0, "max_iter"
        try:
            for epoch in range(1, self.max_iter + 1):
                started = time.perf_counter()
                loss = self._epoch(
                    objective, variable, optimizer, X, class_slices, anchors, generator
                )
                if not np.isfinite(loss) or not torch.isfinite(variable).all():
                    status = "not_finite"
                    break
                loss_curve.append(loss)
                improved = epoch == 1 or loss < best_loss - self.tol * abs(best_loss)
                waited = 0 if improved else waited + 1
                if epoch == 1 or loss < best_loss:
                    best_loss = loss
                    best.copy_(variable.detach())
                if self.verbose and epoch % self.verbose == 0:
                    seconds = time.perf_counter() - started
                    print(f"epoch {epoch:5d}  loss {loss:.6g}  {seconds:.2f} s")  # noqa: T201
                if self.callback is not None and self.callback(
                    epoch, loss, to_numpy(variable).copy()
                ):
                    status = "callback"
                    break
                if waited >= self.n_iter_no_change:
                    status = "converged"
                    break
        except KeyboardInterrupt:
            status = "interrupted"
        return SolverResult(to_numpy(best), loss_curve, status)

    def _epoch(
        self,
        objective: Objective,
        variable: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        X: torch.Tensor,
        class_slices: Sequence[slice],
        anchors: torch.Tensor,
        generator: torch.Generator,
    ) -> float:
        """Search the neighbours, take one step a batch, return the loss of the new iterate."""
        with torch.no_grad():
            neighbors = nearest_by_class(X @ variable.T, class_slices, self.n_candidates)
        shuffled = anchors[torch.randperm(len(anchors), generator=generator)].to(X.device)
        for batch in shuffled.split(self.batch_size):
            optimizer.zero_grad()
            objective.value(variable, X, batch, neighbors, generator).backward()
            optimizer.step()
        # with triplets of its own, so that the best iterate is judged by what it is
        total = 0.0
        with torch.no_grad():
            for batch in shuffled.split(max(self.batch_size, _EVALUATION_BATCH)):
                loss = objective.value(variable, X, batch, neighbors, generator)
                total += float(loss) * len(batch)
        return total / len(anchors)
