"""Adam on the components G, unconstrained."""

import time

import numpy as np
import torch

from skrobust.metric_learning._problem import (
    BestIterate,
    FitProblem,
    SolverResult,
    check_positive,
)
from skrobust.numerics import nearest_by_class
from skrobust.utils._estimator import BaseEstimator

__all__ = ["AdamSolver"]

_EVALUATION_BATCH = 1024
_LEAST_STEPS = 16


class AdamSolver(BaseEstimator):
    """Minimise an objective over G by Adam.

    An epoch draws anchors, searches their candidates under the metric of the moment, and takes a
    step a batch. So the search costs ``epoch_size × n_samples`` distances an epoch, however
    many points there are.

    G starts at size √n_components: the objective is the same for all sizes, a step is not.

    Parameters
    ----------
    batch_size : int or None, default=64
        Anchors a step; None takes all of an epoch at once.
    epoch_size : int or None, default=4096
        Anchors an epoch; fewer points are gone through more than once, until there are
        16 steps. None is every anchor once.
    max_iter : int, default=50
        Epochs at most.
    learning_rate : float, default=1e-3
        Adam's step size.
    tol : float, default=1e-4
        An epoch improves if what it is judged by is better by ``tol * |best|``.
    n_iter_no_change : int, default=20
        Stop after this many epochs without improvement.
    """

    def __init__(
        self,
        batch_size: int | None = 64,
        epoch_size: int | None = 4096,
        max_iter: int = 50,
        learning_rate: float = 1e-3,
        tol: float = 1e-4,
        n_iter_no_change: int = 20,
    ):
        self.batch_size = batch_size
        self.epoch_size = epoch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def solve(self, problem: FitProblem) -> SolverResult:
        """Start from the problem's components, and return the best iterate."""
        self._check()
        # the objective does not see the size of G, a step does
        size = torch.linalg.matrix_norm(problem.components) / len(problem.components) ** 0.5
        variable = (problem.components / size).requires_grad_()
        optimizer = torch.optim.Adam([variable], lr=self.learning_rate)
        best = BestIterate(problem, self.tol)
        loss_curve: list[float] = []
        times = {"search_seconds": 0.0, "step_seconds": 0.0, "judge_seconds": 0.0}
        waited, status = 0, "max_iter"
        try:
            for epoch in range(1, self.max_iter + 1):
                problem.objective.anneal((epoch - 1) / max(self.max_iter - 1, 1))
                started = time.perf_counter()
                loss, judged = self._epoch(problem, variable, optimizer, times)
                if not np.isfinite(loss) or not torch.isfinite(variable).all():
                    status = "not_finite"
                    break
                stepped = time.perf_counter()
                improved = best.offer(judged, loss)
                times["judge_seconds"] += time.perf_counter() - stepped
                loss_curve.append(loss)
                waited = 0 if improved else waited + 1
                if problem.verbose and epoch % problem.verbose == 0:
                    _report(epoch, loss, best.validation_curve, started)
                if problem.ends(epoch, loss, judged, best):
                    status = "callback"
                    break
                if waited >= self.n_iter_no_change:
                    status = "converged"
                    break
        except KeyboardInterrupt:
            status = "interrupted"
        if status == "max_iter" and problem.held_out is not None and problem.objective.anneals:
            status = "finished"
        report = {"n_epochs": len(loss_curve), "best_epoch": best.chosen.number}
        return best.result(loss_curve, status, report | times)

    def _check(self) -> None:
        """Raise a ValueError where a parameter is not as described."""
        check_positive(self, integers=("max_iter", "n_iter_no_change"), numbers=("learning_rate",))
        optional = [n for n in ("batch_size", "epoch_size") if getattr(self, n) is not None]
        check_positive(self, integers=optional)
        check_positive(self, numbers=("tol",), zero=True)

    def _epoch(
        self,
        problem: FitProblem,
        variable: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        times: dict[str, float],
    ) -> tuple[float, torch.Tensor]:
        """Search the candidates, take the steps, and return a loss and the iterate to be judged.

        Without held-out points the loss is that of the last iterate, which is judged by it. With
        them it is the mean on the way, which costs nothing, and the mean of the iterates is
        judged: the last batches sway it less.
        """
        objective, X, generator = problem.objective, problem.X, problem.generator
        started = time.perf_counter()
        anchors = problem.sample(self.epoch_size)
        with torch.no_grad():
            neighbors = nearest_by_class(
                X @ variable.T, problem.class_slices, problem.n_candidates, anchors
            )
        searched = time.perf_counter()
        size = self.batch_size or len(anchors)
        passes = 1
        if self.batch_size is not None and self.epoch_size is not None:
            steps = -(-len(anchors) // size)
            passes = max(1, -(-min(self.epoch_size // size, _LEAST_STEPS) // steps))
        total, n_steps = 0.0, 0
        judged = torch.zeros_like(variable, requires_grad=False)
        for _ in range(passes):
            shuffled = anchors[torch.randperm(len(anchors), generator=generator)].to(X.device)
            for batch in shuffled.split(size):
                optimizer.zero_grad()
                loss = objective.value(variable, X, batch, neighbors, generator)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch) / passes
                n_steps += 1
                judged += (variable.detach() - judged) / n_steps
        if problem.held_out is None:
            total, judged = 0.0, variable.detach()
            with torch.no_grad():
                for batch in shuffled.split(max(size, _EVALUATION_BATCH)):
                    # on draws of its own, so that the best iterate is judged by what it is
                    loss = objective.value(variable, X, batch, neighbors, generator)
                    total += float(loss) * len(batch)
        times["search_seconds"] += searched - started
        times["step_seconds"] += time.perf_counter() - searched
        return total / len(anchors), judged


def _report(epoch: int, loss: float, validation_curve: list[float], started: float) -> None:
    held_out = f"  held-out radius {validation_curve[-1]:.6g}" if validation_curve else ""
    seconds = time.perf_counter() - started
    print(f"epoch {epoch:5d}  loss {loss:.6g}{held_out}  {seconds:.2f} s")  # noqa: T201
